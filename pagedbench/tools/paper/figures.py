"""The figures that can be reproduced, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.paper import fig1, fig2, fig11, fig12, fig13, fig14, fig15, fig16, fig17, fig18, fig19

if TYPE_CHECKING:
    from pagedbench.tools.paper.figure import Figure

_IN_ORDER: tuple[Figure, ...] = (
    fig1.FIGURE,
    fig2.FIGURE,
    fig11.FIGURE,
    *fig12.FIGURES,
    fig13.FIG13A,
    fig13.FIG13B,
    *fig14.FIGURES,
    fig15.FIG15A,
    fig15.FIG15B,
    *fig16.FIGURES,
    fig17.FIGURE,
    fig18.FIG18A,
    fig18.FIG18B,
    fig19.FIG19A,
    fig19.FIG19B,
)

FIGURES: dict[str, Figure] = {figure.name: figure for figure in _IN_ORDER}


def find_figures(names: list[str]) -> list[Figure] | str:
    """The figures of some names, each once and in the paper's order; or a name that there is not.

    "all" is every figure, and a name without its letter every panel.
    """
    wanted: set[str] = set()
    for name in names:
        found = {known for known in FIGURES if name in ("all", known, known.rstrip("abcdef"))}
        if not found:
            return name
        wanted |= found
    return [figure for figure in _IN_ORDER if figure.name in wanted]
