"""Footprint: what a case of the check leaves, small enough to commit, and rich enough to say what moved."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pagedbench.config import ConfigError
from pagedbench.tools.check.watch import Event

Value = float | int | bool | str | None

SAMPLED = (
    "running",
    "waiting",
    "swapped",
    "kv_token_states",
    "kv_reserved",
    "kv_internal",
    "kv_external",
    "kv_free",
)
"""Columns of steps.csv whose values a checkpoint keeps."""

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state in one iteration, and digests of this and the iterations up to the next checkpoint.

    Attributes:
        iteration: the first of them.
        time: its start, in microseconds.
        values: of `SAMPLED`.
        steps: digest of the integer columns of steps.csv.
        placements: digest of where every token lies, and of all copies and moves.
        events: what happened to requests.
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
            ValueError: it is no such line.
        """
        words = text.split(" ")
        numbers, digests = words[: 2 + len(SAMPLED)], words[2 + len(SAMPLED) : 4 + len(SAMPLED)]
        iteration, time, *values = map(int, numbers)
        steps, placements = digests
        events = tuple(event for word in words[4 + len(SAMPLED) :] for event in _events_of(word))
        return cls(iteration, time, tuple(values), steps, placements, events)


def _event_words(events: tuple[Event, ...]) -> list[str]:
    words: dict[int, str] = {}
    for event in events:
        place = "" if event.slot is None else f"@{event.slot}"
        word = words.get(event.iteration, str(event.iteration))
        words[event.iteration] = f"{word}{event.kind}{event.request}{place}"
    return list(words.values())


_WORD = re.compile(r"(\d+)((?:[-+!<>]\d+(?:@\d+)?)+)")
_EVENT = re.compile(r"([-+!<>])(\d+)(?:@(\d+))?")


def _events_of(word: str) -> list[Event]:
    match = _WORD.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is no event")
    return [
        Event(int(match[1]), kind, int(request), int(slot) if slot else None)
        for kind, request, slot in _EVENT.findall(match[2])
    ]


@dataclass(frozen=True, slots=True)
class Footprint:
    """One case.

    Attributes:
        options: the options that are not run's defaults.
        trace: sha256 of lengths, contents and decoding.
        arrivals: digest of the arrival times.
        step_times: milliseconds of a few iterations by the case's cost model.
        crash: the error that ended the run, if one did.
        num_leaked, leaks_from, torn, torn_from: as in `PlacementWatch`.
        num_steps: iterations.
        requests, steps: digests of the columns of requests.csv and steps.csv.
        checkpoints: one every `STRIDE` iterations.
        metrics: for people; the digests judge.
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
        """Of the whole run, in order."""
        return [event for checkpoint in self.checkpoints for event in checkpoint.events]

    @property
    def is_faulty(self) -> bool:
        """Wrong whatever a baseline says."""
        return self.crash is not None or self.torn is not None or self.num_leaked != 0

    def document(self) -> dict[str, Any]:
        """For JSON."""
        plain = asdict(self)
        plain["checkpoints"] = [checkpoint.text() for checkpoint in self.checkpoints]
        return plain

    @classmethod
    def from_document(cls, document: Any) -> Footprint:
        """The inverse of `document`.

        Raises:
            ConfigError: it is no such object.
        """
        names = {item.name for item in fields(cls)}
        try:
            if set(document) != names:
                raise ValueError("other fields")
            lines = [Checkpoint.from_text(text) for text in document["checkpoints"]]
            footprint = cls(**{**document, "checkpoints": tuple(lines)})
            _check_types(footprint)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"it is not what a check leaves: {error}") from error
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
                raise ValueError(f"{name} is of another kind")
    if not all(isinstance(item, int | float) for item in footprint.step_times.values()):
        raise ValueError("step_times holds what is no number")
    if not all(isinstance(item, int | float | None) for item in footprint.metrics.values()):
        raise ValueError("metrics holds what is no number")
