"""Judgements made by hand, one of each outcome."""

from __future__ import annotations

from pagedbench.show.judgement import Figure, Judgement, Outcome

FAILED = Judgement(
    "new: rate 2", "tpot_p50_ms", Outcome.FAILED, "tpot_p50_ms is 12 % worse.",
    (Figure("tpot_p50_ms", "ms", "lower", 10.0, 11.2),),
)  # fmt: skip
PASSED = Judgement(
    "new: rate 2", "throughput", Outcome.PASSED, "Both are equal.",
    (Figure("request_throughput", "req/s", "higher", 2.0, 2.0), Figure("running", "", "-", 3.0, 3.0)),
)  # fmt: skip
SKIPPED = Judgement(
    "new: rate 4", "ttft_p99_ms", Outcome.NOT_JUDGED, "A p99 of 9 requests.",
    (Figure("ttft_p99_ms", "ms", "lower", 10.0, 20.0),),
)  # fmt: skip
ALL = (FAILED, PASSED, SKIPPED)


def numbered(outcome: Outcome, count: int) -> list[Judgement]:
    return [Judgement("s", f"c{index}", outcome, f"Number {index}.", ()) for index in range(count)]
