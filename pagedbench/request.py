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
        max_tokens: generation never passes it. In replay it is the trace's length, which forces it.
        n: parallel samples of one prompt.
        beam_width: beams, all of which are returned; None: no beam search.
        temperature: 0 is greedy.
        top_p: sample from the likeliest tokens whose probabilities reach this sum; 1: from all.
        top_k: sample from this many likeliest tokens; 0: from all.
        seed: seed of the random numbers, each of which belongs to (request, sequence, position).
        stop_token_ids: a sequence ends with the first of these that it emits; none in replay, and none in
            beam search. A group of samples runs until all have ended.
        random_id: replaces the request's id as a key of random numbers, so that a client's seed always
            gives the same reply; None: the id.
        logprobs: does the client want the log-probabilities of the tokens?
    """

    max_tokens: int
    n: int = 1
    beam_width: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    random_id: int | None = None
    logprobs: bool = False

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
        output_len: the reply's length in the trace, at most `max_tokens`; None: unknown.
        session_id: the trace's name of the conversation that the request belongs to.
    """

    request_id: int
    arrival_time: float
    prompt: Prompt
    sampling: SamplingParams
    output_len: int | None = None
    session_id: str | None = None

    @property
    def prompt_len(self) -> int:
        return self.prompt.length

    @property
    def random_id(self) -> int:
        """A key of its random numbers, in addition to the seed."""
        return self.request_id if self.sampling.random_id is None else self.sampling.random_id

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

    PREFILLING: its prompt is partly computed. FAILED: it could never fit the pool, and was not started.
    ABORTED: its client has given it up.
    """

    WAITING = "waiting"
    PREFILLING = "prefilling"
    RUNNING = "running"
    SWAPPED = "swapped"
    FINISHED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(slots=True)
class DecodeCounter:
    """Counts decoding iterations; all sequences that decode share one counter.

    Lengths derive from it, so an iteration in which thirty sequences grow changes one integer.

    Attributes:
        num_new: 1 from the moment an iteration is scheduled until its samples are known, otherwise 0.
    """

    count: int = 0
    num_new: int = 0


_NOT_DECODING = DecodeCounter()


class Sequence:
    """One growing hypothesis of a request.

    ::

        prompt and reply  |  computed  | in this iteration | later chunks |
                          0      num_computed          num_stored     num_tokens

    The newest token of a reply is sampled in one iteration and stored in the next: it is not counted by
    `num_tokens`, unless a preempted sequence computes it together with its prompt.
    """

    __slots__ = (
        "_counter",
        "_num_new",
        "_offset",
        "cumulative_logprob",
        "group",
        "has_stopped",
        "num_left",
        "output_ids",
        "sequence_id",
    )

    def __init__(self, sequence_id: int, group: SequenceGroup) -> None:
        self.sequence_id = sequence_id
        self.group = group
        self.output_ids: list[int] = []  # stays empty where nothing is sampled (simulation)
        self.cumulative_logprob = 0.0
        self.has_stopped = False  # its newest token was a stop token
        self.num_left = group.request.prompt_len  # tokens that it computes in later iterations
        self._num_new = 0  # tokens of its prompt that this iteration computes
        self._counter = _NOT_DECODING
        self._offset = self.num_left

    def __repr__(self) -> str:
        return f"Sequence({self.sequence_id}, num_tokens={self.num_tokens}, num_stored={self.num_stored})"

    @property
    def num_tokens(self) -> int:
        """Tokens that need a slot: those in the cache after this iteration, and those to be computed."""
        return self._counter.count + self._offset

    @property
    def num_stored(self) -> int:
        """Tokens whose keys and values are in the cache after this iteration."""
        first = self.group.sequences[0]  # computes what the others share with it
        return self.num_tokens - max(self.num_left, first.num_left)

    @property
    def num_computed(self) -> int:
        """Tokens whose keys and values are in the cache now, before this iteration has run."""
        first = self.group.sequences[0]
        num_missing = max(self.num_left + self._num_new, first.num_left + first._num_new)
        return self.num_tokens - (num_missing or self._counter.num_new)

    @property
    def is_growing(self) -> bool:
        """Does it store a token in every decoding iteration?"""
        return self._counter is not _NOT_DECODING

    @property
    def has_ended(self) -> bool:
        """Does it have all its tokens? It may be computed until its whole group or batch has ended."""
        return self.has_stopped or len(self.output_ids) >= self.group.request.reply_len

    def append(self, token: int, logprob: float) -> None:
        """Take in the next token of the reply; nothing follows a stop token."""
        if not self.has_stopped:
            self.output_ids.append(token)
            self.cumulative_logprob += logprob
            self.has_stopped = token in self.group.request.sampling.stop_token_ids

    def compute(self, start: int, stop: int) -> None:
        """This iteration computes positions `start` to `stop` - 1 of the prompt; none if they are equal."""
        self._num_new = stop - start
        self.num_left = self.num_tokens - stop

    def finish_chunk(self) -> None:
        """The iteration has run: the tokens that it computed of the prompt are in the cache."""
        self._num_new = 0

    def start(self, counter: DecodeCounter) -> None:
        """Grow with `counter` from now on; the whole prompt is in the cache after this iteration."""
        self.num_left = 0
        self._offset = self.num_tokens - counter.count
        self._counter = counter

    def stop(self) -> None:
        """Grow no more."""
        self._offset = self.num_tokens
        self._counter = _NOT_DECODING

    def extend(self, num_tokens: int = 1) -> None:
        """`num_tokens` more tokens need a slot."""
        self._offset += num_tokens

    def discard(self, *, is_running: bool) -> None:
        """Its keys and values are lost: all tokens must be computed again, even the reply's newest one."""
        self._offset += is_running
        self.num_left = self.num_tokens


@dataclass(slots=True)
class Span:
    """A stretch of uninterrupted decoding, from which token times are derived.

    Iteration `prefill_step`, which completed the prompt, decides the span's first token; each of the
    decoding iterations number `first` + 1 to `last` of the run decides one more. A group that was swapped
    in begins without a prefill: decoding iterations decide all its tokens.

    Attributes:
        extra: decoding iterations that decided more than one token, one entry per further token.
    """

    prefill_step: int | None
    first: int
    last: int
    extra: list[int] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Output positions decided in this stretch."""
        return self.last - self.first + (self.prefill_step is not None) + len(self.extra)


@dataclass(slots=True, eq=False, weakref_slot=True)
class SequenceGroup:
    """All hypotheses of a request: admitted, preempted and finished together (paper, section 4.5)."""

    request: Request
    order: int  # rank by arrival: earlier groups are served earlier and preempted later
    status: Status = Status.WAITING
    sequences: list[Sequence] = field(default_factory=list)
    admit_step: int | None = None  # the iteration that first admitted the group
    num_preemptions: int = 0
    num_cached: int = 0  # prompt tokens that were found in the prefix cache when it was first admitted
    spans: list[Span] = field(default_factory=list)
    num_sequences: int = field(init=False)
    prompt_len: int = field(init=False)
    final_len: int = field(init=False)  # tokens of one finished sequence, prompt and reply
    max_len: int = field(init=False)  # the most that a sequence may have
    worst_case_len: int = field(init=False)  # the most that one stores: its last token is only sampled

    def __post_init__(self) -> None:
        if not self.sequences:
            self.sequences = [Sequence(i, self) for i in range(self.request.sampling.width)]
        self.num_sequences = len(self.sequences)
        self.prompt_len = self.request.prompt_len
        self.final_len = self.request.final_len
        self.max_len = self.request.max_len
        self.worst_case_len = self.max_len - 1

    @property
    def num_left(self) -> int:
        """Tokens that the group's sequences compute in later iterations before they can sample."""
        return sum(sequence.num_left for sequence in self.sequences)
