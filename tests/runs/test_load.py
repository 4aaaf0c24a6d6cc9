"""When a run was starved, and what is said of it."""

from __future__ import annotations

import pytest

from pagedbench.runs.load import Load


@pytest.mark.parametrize(
    ("foreign_cores", "cpu_share", "is_busy"),
    [
        (1.5, 0.4, True),
        (0.0, 0.4, False),  # its own threads wait for each other
        (1.0, 0.97, False),  # others work, but on cores that it does not want
        (0.2, 0.85, True),
    ],
)
def test_both_must_be_seen(foreign_cores: float, cpu_share: float, is_busy: bool) -> None:
    load = Load(wall_s=5.0, cpu_s=4.0, cores=2, foreign_cores=foreign_cores, cpu_share=cpu_share)
    assert load.is_busy is is_busy
    assert load.document()["busy"] is is_busy
    assert load.document()["foreign_cores"] == foreign_cores


def test_the_sentence_has_both_figures() -> None:
    assert Load(5.0, 4.0, 2, 1.46, 0.333).sentence == (
        "This machine was busy: other programs kept 1.5 of 2 cores, and this one got 33 % of the CPU time "
        "that it wanted. Its times say little."
    )
