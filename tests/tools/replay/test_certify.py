"""What the load generator is certified for: figures from exchanges, the verdict, and the certificate."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.config import ConfigError
from pagedbench.loadgen.generate import Generation
from pagedbench.loadgen.job import WorkerReport
from pagedbench.loadgen.wire import Exchange, Failure
from pagedbench.metrics.client import Peak
from pagedbench.remote.certificate import certified, check_certificate_place
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.options import CommandOptions
from pagedbench.tools.replay import certify, certify_command
from pagedbench.tools.replay.certify import (
    RateCheck,
    check_rates,
    highest_kept,
    save_certificate,
    word_errors,
)
from pagedbench.tools.replay.certify_command import parsed_rates
from pagedbench.tools.replay.certify_report import verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = RateCheck(100, 10, 0, 99.0, 1e-5, 1e-4, 1e-3, 0.0, 1e-4, 5e-4, 1e-4, 0.1, Peak(112, 640))


def changed(**changes: Any) -> RateCheck:
    return replace(GOOD, **changes)


def exchange(number: int, scheduled: float, lag: float, words: list[tuple[float, float]]) -> Exchange:
    """`words`: when each was seen, since the start, and sent, on the clock. The call arrived at 50 s."""
    pieces = [(seen, b'data: {"times":[50.0000000,%.7f]}\n\n' % sent) for seen, sent in words]
    start = scheduled + lag
    return Exchange(number, scheduled, start, start, 200, pieces, 9.0)


def test_errors_are_what_the_client_saw_less_what_the_server_did() -> None:
    ttft, gaps = word_errors(exchange(0, 1.0, 0.0, [(1.5, 50.375), (2.0, 51.0), (2.25, 51.25)]))
    assert ttft == pytest.approx(0.125)  # half a second for three eighths
    assert gaps == pytest.approx([-0.125, 0.0])


def test_words_that_arrive_together_have_errors_in_their_gaps() -> None:
    one = exchange(0, 1.0, 0.0, [(1.5, 50.25), (1.5, 50.5)])
    joined = Exchange(0, 1.0, 1.0, 1.0, 200, [(1.5, one.pieces[0][1] + one.pieces[1][1])], 2.0)
    assert word_errors(joined) == word_errors(one) == (0.25, [-0.25])


def test_figures_of_a_rate() -> None:
    found = [exchange(number, number / 10, 0.002 * (number == 3), [(0.5 + number / 10, 50.25)] * 2)
             for number in range(4)]  # fmt: skip
    found.append(Exchange(4, 0.4, math.nan, math.nan, None, [], 1.0, Failure.CONNECTION, "refused"))
    generation = Generation(
        40.0,
        (WorkerReport(2.0, 0.5, 3, False), WorkerReport(2.0, 1.5, 3, True)),
        ("A worker died.",),
        False,
    )
    check = certify._rate_check(10.0, found, generation)
    assert (check.num_requests, check.num_failed) == (5, 1)
    assert check.sent_rate == pytest.approx(3 / 0.302)
    assert check.lag_max == pytest.approx(0.002)
    assert check.late_share == 0.25
    assert check.ttft_error_p50 == pytest.approx(0.25)
    assert check.gap_error_p99 == 0.0
    assert check.cpu_share == 0.5
    assert check.peak == Peak(4, 8)
    assert (check.was_full, check.problem) == (True, "A worker died.")


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_failed", 1), ("lag_p99", 0.0011), ("ttft_error_p99", 0.0011), ("lag_p99", math.nan),
     ("was_full", True), ("problem", "A worker has failed: why.")],
)  # fmt: skip
def test_a_rate_is_kept_only_if_all_limits_are(name: str, value: float | str) -> None:
    assert GOOD.is_kept
    assert not changed(**{name: value}).is_kept


def test_the_certified_rate_has_no_gap_below_it() -> None:
    bad = changed(rate=300, num_failed=2)
    assert highest_kept([changed(rate=1000), bad, GOOD]) is GOOD
    assert highest_kept([bad]) is None
    assert "does not keep up with 300" in verdict([bad], 1)
    assert "2 workers is certified for 100" in verdict([GOOD, bad], 2)
    assert "ulimit -n" in verdict([GOOD, changed(rate=300, was_full=True)], 2)


def test_nothing_is_saved_when_a_worker_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bad = changed(rate=300, problem="A worker has failed: why.")
    monkeypatch.setattr(certify, "check_rates", lambda *arguments: iter([GOOD, bad]))
    given = CommandOptions(flags={}, format="json")
    assert certify_command.certify(given, "100,300", 1) == CRASHED
    assert "A worker has failed: why. Nothing was saved." in capsys.readouterr().err
    assert certified(1) is None


def test_a_certificate_holds_for_this_machine_and_number_of_workers(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert certified(1) is None
    path = save_certificate([GOOD], 1, "2026-11-27T12:00:00Z")
    assert certified(1) == Peak(112, 640)
    assert certified(2) is None
    save_certificate([changed(peak=Peak(200, 1200))], 2, "2026-11-27T12:00:00Z")
    assert (certified(1), certified(2)) == (Peak(112, 640), Peak(200, 1200))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": {"cpu": "another"}}))
    assert certified(1) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        check_certificate_place(1)
    assert certified(1) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path.write_text("{rubbish")
    assert certified(1) is None


def test_what_ctrl_c_left_is_kept_if_it_is_more(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def measure(*found: RateCheck, is_stopped: bool, strict: bool = False) -> int:
        def check_rates(*arguments: object) -> Iterator[RateCheck]:
            yield from found
            if is_stopped:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(certify, "check_rates", check_rates)
        given = CommandOptions(flags={}, strict=strict, format="json")
        return certify_command.certify(given, "100,200", 1)

    assert measure(GOOD, is_stopped=True) == INTERRUPTED
    assert certified(1) == GOOD.peak
    assert measure(changed(peak=Peak(50, 300)), is_stopped=True) == INTERRUPTED
    assert certified(1) == GOOD.peak
    bad = changed(num_failed=1)
    assert measure(bad, is_stopped=False) == 0
    assert certified(1) is None
    assert measure(bad, is_stopped=False, strict=True) == INVALID
    assert '"peak_chunks": 640' in capsys.readouterr().out


def test_a_real_check_sees_every_word() -> None:
    checks = list(check_rates([40.0, 80.0], 0.25, num_workers=2, seed=3, stop=Event()))
    assert [check.num_requests for check in checks] == [10, 20]
    for check in checks:
        assert check.num_failed == 0
        assert 0 < check.lag_p50 <= check.lag_max
        assert check.ttft_error_p50 > 0  # the way there and back takes some time


@pytest.mark.parametrize("rates", ["", "a", "0", "-1", "1,,2", "nan", "inf", "1e9"])
def test_impossible_rates_are_refused(rates: str) -> None:
    with pytest.raises(ConfigError, match="--rates"):
        parsed_rates(rates, 10.0)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_impossible_durations_are_refused(duration: float) -> None:
    with pytest.raises(ConfigError, match="--duration"):
        parsed_rates("100", duration)
