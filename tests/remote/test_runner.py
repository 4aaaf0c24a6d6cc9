"""What a run against a server says of its own generator."""

from __future__ import annotations

import pytest

from pagedbench.loadgen.generate import Generation
from pagedbench.loadgen.job import WorkerReport
from pagedbench.remote.http import HIDDEN, without_key
from pagedbench.remote.runner import _load_of, _remarks
from pagedbench.runs.machine_load import Load


def test_workers_are_no_other_programs_and_may_starve() -> None:
    calm, starved = (WorkerReport(2.0, 1.0, 1, was_full=False, waited_s=wait) for wait in (0.0, 0.25))
    seen = Load(wall_s=2.0, cpu_s=0.1, cores=2, foreign_cores=1.5, cpu_share=1.0)
    load = _load_of(Generation(0.0, (calm, starved), (), was_stopped=False), seen)
    assert (load.cpu_s, load.foreign_cores, load.cpu_share) == (2.1, 0.5, 0.8)
    assert load.is_busy
    assert not _load_of(Generation(0.0, (calm,), (), was_stopped=False), seen).is_busy


def test_failed_workers_and_missing_sockets_are_said() -> None:
    report = WorkerReport(2.0, 1.0, 1, was_full=True)
    remarks = _remarks(Generation(0.0, (report,), ("A worker has failed: it died",), was_stopped=False))
    assert remarks[0] == "A worker has failed: it died"
    assert "no more sockets" in remarks[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bad key sesame-street", f"bad key {HIDDEN}"),
        ("bad key sesame-st", f"bad key {HIDDEN}"),
        ("bad keys", "bad keys"),
        ("", ""),
    ],
)
def test_a_key_that_a_server_repeats_is_cut_out(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGEDBENCH_API_KEY", "sesame-street")
    assert without_key(text) == shown
    monkeypatch.delenv("PAGEDBENCH_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert without_key(text) == text
