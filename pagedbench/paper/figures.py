"""The figures that can be reproduced, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.paper import fig2, fig13a, fig15a, fig15b

if TYPE_CHECKING:
    from types import ModuleType

FIGURES: dict[str, ModuleType] = {"fig2": fig2, "fig13a": fig13a, "fig15a": fig15a, "fig15b": fig15b}
"""Each module has TITLE, TRACE, EXPERIMENT, NOTE (what to know) and `claims(rows, seed, are_drawn=...)`."""
