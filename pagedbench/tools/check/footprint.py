"""Footprint: the result of a case of the check, small enough to commit, and enough to explain a change."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pagedbench.config import ConfigError
from pagedbench.tools.check.watch import Event, EventKind

Value = float | int | bool | str | None

SAMPLED = ("running", "waiting", "swapped", "kv_token_states", "kv_reserved", "kv_internal",
           "kv_external", "kv_free")  # fmt: skip
"""Columns of steps.csv that a checkpoint keeps."""

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state in one iteration, and digests of the iterations up to the next checkpoint.

    Attributes:
        iteration: number of the iteration.
        time: its start, in microseconds.
        values: values of the columns `SAMPLED`.
        steps: digest of the integer columns of steps.csv.
        placements: digest of the slots of all tokens, and of all copies and moves.
        events: events of requests.
    """

    iteration: int
    time: int
    values: tuple[int, ...]
    steps: str
    placements: str
    events: tuple[Event, ...]

    def text(self) -> str:
        """One line: iteration, time, values, digests, events such as 310+57@2048!60-3."""
        numbers = map(str, (self.iteration, self.time, *self.values))
        return " ".join([*numbers, self.steps, self.placements, *_event_words(self.events)])

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """The inverse of `text`.

        Raises:
            ValueError: it is not such a line.
        """
        words, end = text.split(" "), 2 + len(SAMPLED)
        iteration, time, *values = map(int, words[:end])
        steps, placements = words[end : end + 2]
        events = tuple(event for word in words[end + 2 :] for event in _events_of(word))
        return cls(iteration, time, tuple(values), steps, placements, events)


def _event_words(events: tuple[Event, ...]) -> list[str]:
    words: dict[int, str] = {}
    for event in events:
        slot = "" if event.slot is None else f"@{event.slot}"
        word = words.get(event.iteration, str(event.iteration))
        words[event.iteration] = f"{word}{event.kind}{event.request}{slot}"
    return list(words.values())


_WORD = re.compile(r"(\d+)((?:[-+!<>]\d+(?:@\d+)?)+)")
_EVENT = re.compile(r"([-+!<>])(\d+)(?:@(\d+))?")


def _events_of(word: str) -> list[Event]:
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is not an event")
    return [
        Event(int(match[1]), EventKind(kind), int(request), int(slot) if slot else None)
        for kind, request, slot in _EVENT.findall(match[2])
    ]


@dataclass(frozen=True, slots=True)
class Footprint:
    """The result of one case.

    Attributes:
        options: the options that are not run's defaults.
        trace: sha256 of lengths, contents and decoding.
        arrivals: digest of the arrival times.
        step_times: milliseconds of a few iterations by the case's cost model.
        crash: the error that ended the run, if any.
        num_leaked, leaks_from, torn, torn_from: see `PlacementWatch`.
        num_steps: number of iterations.
        requests, steps: digests of the columns of requests.csv and steps.csv.
        checkpoints: one every `STRIDE` iterations.
        metrics: figures for readers; comparisons use the digests.
    """

    options: dict[str, Value]
    trace: str
    arrivals: str
    step_times: dict[str, float]
    crash: str | None
    num_leaked: int
    leaks_from: int | None
    torn: str | None
    torn_from: int | None
    num_steps: int
    requests: dict[str, str]
    steps: dict[str, str]
    checkpoints: tuple[Checkpoint, ...]
    metrics: dict[str, Value] = field(compare=False)

    @property
    def events(self) -> list[Event]:
        """All events of the run, in order."""
        return [event for checkpoint in self.checkpoints for event in checkpoint.events]

    @property
    def is_faulty(self) -> bool:
        """Whether the run crashed or leaked memory."""
        return self.crash is not None or self.torn is not None or self.num_leaked != 0

    def document(self) -> dict[str, Any]:
        """JSON object."""
        plain = asdict(self)
        plain["checkpoints"] = [checkpoint.text() for checkpoint in self.checkpoints]
        return plain

    @classmethod
    def from_document(cls, document: Any) -> Footprint:
        """The inverse of `document`.

        Raises:
            ConfigError: it is not such an object.
        """
        names = {item.name for item in fields(cls)}
        try:
            if set(document) != names:
                raise ValueError("other fields")
            lines = [Checkpoint.from_text(text) for text in document["checkpoints"]]
            footprint = cls(**{**document, "checkpoints": tuple(lines)})
            _check_types(footprint)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"it is not the footprint of a case: {error}") from error
        return footprint


def _check_types(footprint: Footprint) -> None:
    kinds: dict[type, tuple[str, ...]] = {
        dict: ("options", "step_times", "requests", "steps", "metrics"),
        str: ("trace", "arrivals"),
        int: ("num_steps", "num_leaked"),
    }
    for kind, names in kinds.items():
        for name in names:
            if not isinstance(getattr(footprint, name), kind):
                raise ValueError(f"{name} has the wrong type")
    if not all(isinstance(item, int | float) for item in footprint.step_times.values()):
        raise ValueError("step_times has values that are not numbers")
    if not all(isinstance(item, int | float | None) for item in footprint.metrics.values()):
        raise ValueError("metrics has values that are not numbers")
