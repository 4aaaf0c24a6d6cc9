"""What a client asks (Request), and what grows from it in the engine (Sequence, SequenceGroup)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.prompt import Prompt


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the reply is decoded, and where it ends.

    Attributes:
        max_tokens: generation never passes it. In replay it is the trace's length, which is so forced.
        n: parallel samples of one prompt.
        beam_width: beams, all of which are returned; None: no beam search.
        temperature: 0 is greedy.
        top_p: sample from the likeliest tokens whose probabilities reach this sum; 1: from all.
        top_k: sample from this many likeliest tokens; 0: from all.
        seed: of the random numbers, each of which belongs to (request, sequence, position).
        stop_token_ids: a sequence ends with the first of these that it emits; none in replay, and none in
            beam search. A group of samples runs until all have ended.
    """

    max_tokens: int
    n: int = 1
    beam_width: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert not (self.beam_width and self.stop_token_ids), "beams have no stop tokens"

    @property
    def width(self) -> int:
        """Sequences that run side by side."""
        return self.beam_width or self.n


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        arrival_time: seconds of the run's clock, counted from its start.
        output_len: what a trace knows of the reply's length, at most `max_tokens`; None: nobody knows it.
    """

    request_id: int
    arrival_time: float
    prompt: Prompt
    sampling: SamplingParams
    output_len: int | None = None

    @property
    def prompt_len(self) -> int:
        return self.prompt.length

    @property
    def reply_len(self) -> int:
        """Tokens of one finished sequence's reply, unless a stop token ends it before."""
        return self.sampling.max_tokens if self.output_len is None else self.output_len

    @property
    def final_len(self) -> int:
        """Tokens of one finished sequence, prompt and reply; fewer if a stop token ends it."""
        return self.prompt.length + self.reply_len

    @property
    def max_len(self) -> int:
        """The most tokens that a sequence may have, whatever the trace knows."""
        return self.prompt.length + self.sampling.max_tokens


class Status(Enum):
    """Where a group stands.

    FAILED: it could never fit the pool, and was not started. ABORTED: its client has given it up.
    """

    WAITING = "waiting"
    RUNNING = "running"
    SWAPPED = "swapped"
    FINISHED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(slots=True)
class DecodeCounter:
    """Counts the iterations in which running sequences grow; all that run share one counter.

    Lengths derive from it, so an iteration in which thirty sequences grow changes one integer.
    """

    count: int = 0


_STANDING_STILL = DecodeCounter()


class Sequence:
    """One growing hypothesis of a request.

    `num_stored` is the number of tokens whose keys and values are in the cache once the current
    iteration has run. The newest token of a reply is sampled, but not stored before the next iteration.
    """

    __slots__ = (
        "_counter",
        "_offset",
        "cumulative_logprob",
        "group",
        "has_stopped",
        "output_ids",
        "sequence_id",
    )

    def __init__(self, sequence_id: int, group: SequenceGroup) -> None:
        self.sequence_id = sequence_id
        self.group = group
        self.output_ids: list[int] = []  # stays empty where nothing is sampled (simulation)
        self.cumulative_logprob = 0.0
        self.has_stopped = False  # its newest token was a stop token
        self._counter = _STANDING_STILL
        self._offset = group.request.prompt_len

    def __repr__(self) -> str:
        return f"Sequence({self.sequence_id}, num_stored={self.num_stored})"

    @property
    def num_stored(self) -> int:
        """Tokens in the cache after this iteration; for a waiting sequence, those to be computed."""
        return self._counter.count + self._offset

    @property
    def is_growing(self) -> bool:
        """Does it store a token in every decoding iteration?"""
        return self._counter is not _STANDING_STILL

    @property
    def has_ended(self) -> bool:
        """Has it all its tokens? It may still be computed, until all of its group or batch have ended."""
        return self.has_stopped or len(self.output_ids) >= self.group.request.reply_len

    def append(self, token: int, logprob: float) -> None:
        """Take in the next token of the reply; nothing follows a stop token."""
        if not self.has_stopped:
            self.output_ids.append(token)
            self.cumulative_logprob += logprob
            self.has_stopped = token in self.group.request.sampling.stop_token_ids

    def start(self, counter: DecodeCounter) -> None:
        """Grow with `counter` from now on."""
        self._offset = self.num_stored - counter.count
        self._counter = counter

    def stop(self) -> None:
        """Stand still at the present length."""
        self._offset = self.num_stored
        self._counter = _STANDING_STILL

    def continue_from(self, parent: Sequence) -> None:
        """Become a copy of another sequence of the group (beam search)."""
        self.output_ids = list(parent.output_ids)
        self.cumulative_logprob = parent.cumulative_logprob

    def extend(self) -> None:
        """One token more is to be computed: the newest, which was sampled but not stored."""
        self._offset += 1


@dataclass(slots=True)
class Span:
    """A stretch of uninterrupted decoding, from which token times are derived.

    The span's first token is decided by iteration `prefill_step`, the others by the decoding
    iterations number `first` + 1 to `last` of the run. A group that was swapped in begins without
    a prefill: all its tokens are decided by decoding iterations.
    """

    prefill_step: int | None
    first: int
    last: int

    @property
    def num_tokens(self) -> int:
        """Output positions decided in this stretch."""
        return self.last - self.first + (self.prefill_step is not None)


@dataclass(slots=True, eq=False, weakref_slot=True)
class SequenceGroup:
    """All hypotheses of a request: admitted, preempted and finished together (paper, section 4.5)."""

    request: Request
    order: int  # rank in order of arrival: the smaller, the earlier served and the later preempted
    status: Status = Status.WAITING
    sequences: list[Sequence] = field(default_factory=list)
    admit_step: int | None = None  # the iteration that first admitted the group
    num_preemptions: int = 0
    spans: list[Span] = field(default_factory=list)
    num_sequences: int = field(init=False)
    prompt_len: int = field(init=False)
    final_len: int = field(init=False)  # tokens of one finished sequence, prompt and reply
    max_len: int = field(init=False)  # the most that a sequence may have

    def __post_init__(self) -> None:
        if not self.sequences:
            self.sequences = [Sequence(i, self) for i in range(self.request.sampling.width)]
        self.num_sequences = len(self.sequences)
        self.prompt_len = self.request.prompt_len
        self.final_len = self.request.final_len
        self.max_len = self.request.max_len
