"""Claims across figures: judged if all of their figures were reproduced together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Ratios = Mapping[str, Mapping[str, float]]
    """Ratios by figure and system: paged's sustained rate / that system's."""
    CrossClaim = tuple[tuple[str, ...], Callable[[Ratios], Claim]]
    """The figures whose ratios a claim needs, and the function that judges it."""

PANELS_12 = tuple(f"fig12{letter}" for letter in "abcdef")


def cross_claims(ratios: Ratios) -> Sequence[Claim]:
    """The claims whose figures were all reproduced."""
    return [judge(ratios) for figures, judge in CLAIMS if set(figures) <= set(ratios)]


def _faster_transformer(ratios: Ratios) -> Claim:
    """A claim without a panel: the text does not say in which one the ratio is 22."""
    gains = [ratios[panel]["fastertransformer"] for panel in PANELS_12]
    why = (
        "the ratio doubles between bounds of 1.0 and 0.25 s/token; the paper states neither bound nor panel"
    )
    return Claim("fig12", "paged / fastertransformer", "sustained rate, highest of six panels", "x",
                 Near(22.0, Tolerance(0.25, is_relative=True)), max(gains), why,
                 (min(gains), max(gains)))  # fmt: skip


def _change(first: str, last: str, expected: Between, quantity: str) -> CrossClaim:
    """The gain over Orca (Oracle) in one panel, as a multiple of the gain in another."""

    def judge(ratios: Ratios) -> Claim:
        ours = ratios[last]["orca-oracle"] / ratios[first]["orca-oracle"]
        return Claim(last[:-1], "paged / orca-oracle", quantity, "x", expected, ours)

    return (first, last), judge


def _orcas_coincide(ratios: Ratios) -> Claim:
    gains = [gain for system, gain in ratios["fig17"].items() if system.startswith("orca")]
    return Claim("fig17", "three Orcas", "sustained rates, highest over lowest", "x",
                 Between(None, 1.15, "they coincide"), max(gains) / min(gains))  # fmt: skip


CLAIMS: tuple[CrossClaim, ...] = (
    (PANELS_12, _faster_transformer),
    _change("fig12d", "fig12f", Between(None, 1.0, "less pronounced"), "gain on Alpaca, 175B over 13B"),
    _change("fig14a", "fig14c", Between(1.0, None, "grows with the samples"), "gain, 6 samples over 2"),
    _change("fig14d", "fig14f", Between(1.0, None, "grows with the beams"), "gain, 6 beams over 2"),
    (("fig17",), _orcas_coincide),
)
