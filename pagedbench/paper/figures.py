"""The figures that can be reproduced, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.paper import fig2, fig13a

if TYPE_CHECKING:
    from types import ModuleType

FIGURES: dict[str, ModuleType] = {"fig2": fig2, "fig13a": fig13a}
"""Each module has TITLE, TRACE, EXPERIMENT and `claims(rows, seed, are_drawn=...)`."""
