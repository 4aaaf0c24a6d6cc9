"""Fig. 12, 14, 16, 17: sustained rates are found, ratios taken over seeds, set-ups the paper's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pagedbench.tools.paper.claim import Between
from pagedbench.tools.paper.curve import THRESHOLDS, Curve, Point, mean_latency, measure_curve
from pagedbench.tools.paper.experiment import Cut, Experiment, HostTimes
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import FIGURES
from pagedbench.tools.paper.lengths import Lengths, translation_rows
from pagedbench.tools.paper.rate_figure import Gain, RateFigure, Variant
from pagedbench.tools.paper.rate_figures import CHAT, CUT, FIVE_SHOT
from tools.paper.results import outcome_of

BRIEF = Experiment("opt-13b", "sim:a100-40gb", "alpaca", 20.0, rate=10.0, cost_model="vllm-2023")
LENGTHS = Lengths()


def test_a_sustained_rate_keeps_the_bound_and_a_higher_one_does_not() -> None:
    curve = measure_curve(BRIEF, "orca-max", LENGTHS, 0, THRESHOLDS)
    assert list(curve.sustained) == list(THRESHOLDS)
    assert sorted(curve.sustained.values()) == list(curve.sustained.values())
    for bound, rate in curve.sustained.items():
        assert mean_latency(replace(BRIEF, rate=rate), "orca-max", LENGTHS, 0) <= bound
        above = min(point.rate for point in curve.points if point.rate > rate)
        assert above <= 1.03 * rate
        assert mean_latency(replace(BRIEF, rate=above), "orca-max", LENGTHS, 0) > bound


def test_points_are_in_order_and_those_beyond_every_bound_have_no_latency() -> None:
    curve = measure_curve(BRIEF, "orca-max", LENGTHS, 0, THRESHOLDS)
    rates = [point.rate for point in curve.points]
    assert rates == sorted(set(rates))
    assert curve.points[-1].latency is None
    assert [point.latency for point in curve.points if point.latency and point.latency > 1.0] == []
    assert len([point for point in curve.points if point.rate < curve.sustained[0.25]]) >= 4


def test_where_no_rate_is_sustained_the_ratio_is_endless_and_claims_nothing() -> None:
    figure = RateFigure("fig", "Fig.: x", BRIEF, {"paged": 1.0, "orca-max": 1.0},
                        (Gain("orca-max", Between(1.0, None)),))  # fmt: skip
    fast = Curve((Point(1.0, 0.1, 5, 1.0),), dict.fromkeys(THRESHOLDS, 1.0))
    none = Curve((Point(1.0, None, 5, 1.0),), dict.fromkeys(THRESHOLDS, 0.0))
    (claim,) = figure.outcome(Options(num_seeds=1), {"paged s0": fast, "orca-max s0": none}).claims
    assert claim.ours == math.inf


def test_ratios_are_geometric_means_over_seeds_with_their_range() -> None:
    figure = RateFigure("fig", "Fig.: x", BRIEF, {"paged": 1.0, "orca-max": 1.0},
                        (Gain("orca-max", Between(1.0, 3.0)),))  # fmt: skip

    def curve(rate: float) -> Curve:
        return Curve((Point(rate, 0.1, 5, 1.0),), dict.fromkeys(THRESHOLDS, rate))

    results = {
        "paged s0": curve(2.0), "orca-max s0": curve(1.0), "paged s1": curve(8.0), "orca-max s1": curve(1.0)
    }  # fmt: skip
    outcome = figure.outcome(Options(num_seeds=2), results)
    (claim,) = outcome.claims
    assert claim.ours == pytest.approx(4.0)
    assert claim.spread == (2.0, 8.0)
    assert not claim.holds
    assert outcome.ratios == {"orca-max": pytest.approx(4.0)}


def test_a_variant_shows_the_ratio_of_every_claim() -> None:
    starts = {"paged": 1.0, "orca-oracle": 1.0, "orca-max": 1.0}
    gains = tuple(Gain(system, Between(1.0, None)) for system in ("orca-oracle", "orca-max"))
    figure = RateFigure("fig", "Fig.: x", BRIEF, starts, gains, (Variant("longer steps", BRIEF),))
    options = Options(num_seeds=1)

    def curve(rate: float) -> Curve:
        return Curve((Point(rate, 0.1, 5, 1.0),), dict.fromkeys(THRESHOLDS, rate))

    rates = {"paged": 6.0, "orca-oracle": 3.0, "orca-max": 1.5}
    results = {f"{system} s0": curve(1.0) for system in starts}
    results |= {f"{system}, longer steps": curve(rate) for system, rate in rates.items()}
    assert {piece.name for piece in figure.pieces(options)} == set(results)
    assert figure.outcome(options, results).facts[-1] == (
        "With longer steps: paged / orca-oracle 2.00 x (6/3 requests/s), "
        "/ orca-max 4.00 x (6/1.5 requests/s)."
    )


def test_a_brief_panel_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagedbench.tools.paper.curve.TOLERANCE", 0.2)  # half as many runs
    brief = replace(BRIEF, duration=5.0)
    figure = RateFigure(
        "fig", "Fig.: OPT-13B, Alpaca", brief, {"paged": 30.0, "orca-max": 5.0},
        (Gain("orca-max", Between(3.0, None)),),
        (Variant("no host time", replace(brief, host=HostTimes(request=0.0))),),
    )  # fmt: skip
    outcome = outcome_of(figure, Options(num_seeds=2))
    assert outcome.claims[0].holds
    assert {row["system"] for row in outcome.tables[""]} == {"paged", "orca-max"}
    assert {row["seed"] for row in outcome.tables["-sustained"]} == {0, 1}
    bounds = [row["bound_s_per_token"] for row in outcome.tables["-sustained"] if row["seed"] == 1]
    assert set(bounds) == {0.5}
    assert any(fact.startswith("With no host time: paged / orca-max") for fact in outcome.facts)


@pytest.mark.parametrize(
    ("name", "batch_size", "blocks", "ranks"),
    [("fig12a", 5, 981, 1), ("fig12b", 2, 606, 4), ("fig12c", 24, 3756, 8), ("fig12d", 14, 981, 1),
     ("fig12e", 8, 606, 4), ("fig12f", 80, 3756, 8)],
)  # fmt: skip
def test_panels_have_the_papers_pools_and_batches(
    name: str, batch_size: int, blocks: int, ranks: int
) -> None:
    plan = FIGURES[name].experiment.plan("fastertransformer")
    assert (plan.config.batch_size, plan.num_blocks) == (batch_size, blocks)
    assert plan.config.tensor_parallel_size == ranks


def test_translations_share_their_beginning_and_orca_cannot() -> None:
    requests = replace(FIVE_SHOT, duration=2.0, rate=10.0).requests(LENGTHS, 0)
    assert len({request.prompt.prefix for request in requests}) == 1
    assert min(request.prompt_len for request in requests) > 341
    own = [request.prompt_len - 341 for request in requests]
    assert own == [row for row in own if row >= 1]
    brief = replace(FIVE_SHOT, duration=10.0, rate=5.0)
    assert mean_latency(brief, "paged", LENGTHS, 0) < mean_latency(brief, "orca-oracle", LENGTHS, 0)
    assert brief.engine("paged").memory.usage(head_refused=False).token_states == 336  # 21 pinned blocks
    assert brief.engine("orca-oracle").memory.usage(head_refused=False).token_states == 0


def test_assumed_sentences_have_the_assumed_lengths() -> None:
    for scale in (0.5, 1.0, 2.0):
        rows = translation_rows(4000, scale)
        assert sum(row.prompt_len for row in rows) / 4000 == pytest.approx(27 * scale, rel=0.05)
        assert sum(row.output_len for row in rows) / 4000 == pytest.approx(35 * scale, rel=0.05)
    assert rows == translation_rows(4000, 2.0)


def test_a_chat_keeps_the_last_1024_tokens_and_short_replies() -> None:
    assert Cut(1024, 1016) == CUT
    requests = replace(CHAT, duration=200.0).requests(LENGTHS, 0)
    assert max(request.prompt_len for request in requests) == 1024
    assert max(request.reply_len for request in requests) <= 1016


def test_rounds_are_mixed_as_asked() -> None:
    alike = replace(CHAT, duration=600.0, rate=4.0)
    for share in (0.1, 0.5):
        requests = replace(alike, new_share=share).requests(LENGTHS, 0)
        long = sum(request.prompt_len == 1024 for request in requests) / len(requests)
        assert long == pytest.approx(1 - share, abs=0.05)  # hardly any first turn is that long


def test_a_variant_may_give_the_other_system_another_set_up() -> None:
    variant = Variant("x", BRIEF, replace(BRIEF, rate=3.0))
    assert (variant.of("paged").rate, variant.of("orca-max").rate) == (10.0, 3.0)
    assert Variant("x", BRIEF).of("orca-max") is BRIEF
    assert FIGURES["fig17"].traces == ("sharegpt-8k", "sharegpt")
    assert FIGURES["fig12a"].traces == ("sharegpt",)
