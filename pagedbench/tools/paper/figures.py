"""The figures that can be reproduced, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.paper import field, fig1, fig11, fig18, fig19, hit_rates, managers
from pagedbench.tools.paper.rate_figures import FIG12, FIG14, FIG16, FIG17
from pagedbench.tools.paper.window_figures import FIG2, FIG13, FIG15

if TYPE_CHECKING:
    from pagedbench.tools.paper.figure import Figure

_IN_ORDER: tuple[Figure, ...] = (
    fig1.FIGURE, FIG2, fig11.FIGURE, *FIG12, *FIG13, *FIG14, *FIG15, *FIG16, FIG17, *fig18.FIGURES,
    *fig19.FIGURES,
)  # fmt: skip

_FIELD: tuple[Figure, ...] = (*field.FIGURES, hit_rates.FIGURE, *managers.FIGURES)

FIGURES: dict[str, Figure] = {figure.name: figure for figure in _IN_ORDER}
FIELD: dict[str, Figure] = {figure.name: figure for figure in _FIELD}
"""Measurements by others after the paper."""


def find_figures(names: list[str]) -> list[Figure] | str:
    """The figures with these names, each once and in the paper's order; or the first unknown name.

    "all" is every figure of the paper, a name without its letter every panel, and "field" every later
    claim.
    """
    wanted: set[str] = set()
    for name in names:
        found = {figure.name for figure in _IN_ORDER if name in ("all", figure.name.rstrip("abcdef"))}
        found |= {name} & {*FIGURES, *FIELD}
        found |= set(FIELD) if name == "field" else set()
        if not found:
            return name
        wanted |= found
    return [figure for figure in (*_IN_ORDER, *_FIELD) if figure.name in wanted]
