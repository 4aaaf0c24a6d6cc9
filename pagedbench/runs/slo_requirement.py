"""`--require-slo`: the share of requests that must meet `--slo`, and by how much runs miss it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.values import parse_share

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse_requirement(text: str) -> float:
    """A share above 0 and at most 1, from "95%" or "0.95".

    Raises:
        ConfigError: it is another text.
    """
    share = parse_share(text)
    if not 0 < share <= 1:
        raise ConfigError(
            f"--require-slo is a share of the requests, such as 95% or 0.95, above 0 and at most 100%, not "
            f"{text!r}"
        )
    return share


def missed(required: float, attained: object) -> bool:
    """Whether a run's `slo_attainment` is below the required share; True for a run without requests."""
    return not isinstance(attained, float | int) or attained < required


def shortfall(required: float, attainments: Iterable[tuple[str, object]]) -> str | None:
    """By how much runs miss the required share, in a sentence; None if none does.

    Args:
        attainments: label and `slo_attainment` of every run.
    """
    texts = [
        f"{label} {_text(required, attained)}"
        for label, attained in attainments
        if missed(required, attained)
    ]
    if not texts:
        return None
    return f"SLO missed: {100 * required:g} % of the requests must meet it; {', '.join(texts)}."


def _text(required: float, attained: object) -> str:
    if not isinstance(attained, float | int):
        return "has no requests, or not all of its times are known"
    return f"{100 * attained:.1f} % ({100 * (required - attained):.1f} points short)"
