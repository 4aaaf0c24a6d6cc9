"""Samples of a server's metrics: servers that fall silent, that have none, and the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.loadgen.target import Target
from pagedbench.remote import scraping
from pagedbench.remote.scraping import Scraper, is_idle

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = tuple[int, bytes] | None
    Answers = Callable[..., list[int]]

BUSY, LATER = (
    b"vllm:num_requests_running 1\nvllm:num_preemptions_total %d\n" % number for number in (3, 8)
)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Has a server give these answers, the last one again and again; returns what it was asked."""

    def given(*texts: Answer) -> list[int]:
        asked: list[int] = []

        def get(target: Target, path: str) -> Answer:
            asked.append(len(asked))
            return texts[min(len(asked), len(texts)) - 1]

        monkeypatch.setattr(scraping, "get", get)
        monkeypatch.setattr(scraping, "PERIOD", 0.001)
        return asked

    return given


def sampled(asked: list[int], number: int) -> Scraper:
    with Scraper(Target("x", 1)) as scraper:
        while len(asked) < number and scraper._thread.is_alive():
            scraper._thread.join(0.001)
    return scraper


@pytest.mark.parametrize("failure", [None, (503, b"loading")])
def test_a_scrape_that_fails_is_not_the_last(failure: Answer, answers: Answers) -> None:
    asked = answers(failure, (200, BUSY), failure, (200, LATER))
    samples = sampled(asked, 4).samples(0.0)
    assert samples is not None
    preemptions = samples["preemptions"].tolist()
    assert (preemptions[0], preemptions[-1], len(preemptions)) == (3.0, 8.0, len(asked) - 2)


def test_the_end_is_sampled_too(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers((200, BUSY), (200, LATER))
    monkeypatch.setattr(scraping, "PERIOD", 1000.0)
    samples = sampled(asked, 1).samples(0.0)
    assert samples is not None
    assert samples["preemptions"].tolist() == [3.0, 8.0]


@pytest.mark.parametrize("answer", [(404, b""), (200, b"other 1")])
def test_a_server_without_metrics_is_asked_once(answer: Answer, answers: Answers) -> None:
    asked = answers(answer)
    assert sampled(asked, 9).samples(0.0) is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "is_so"),
    [(None, False), ((503, b""), False), ((404, b""), True), ((200, BUSY), False), ((200, b"x 1"), True)],
)
def test_a_server_that_does_not_answer_is_not_idle(answer: Answer, is_so: bool, answers: Answers) -> None:
    answers(answer)
    assert is_idle(Target("x", 1)) == is_so
