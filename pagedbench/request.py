"""What a client asks (Request), and what grows from it in the engine (Sequence, SequenceGroup)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
"""The step between splitmix64's states (Steele et al. 2014)."""

NUM_SPECIAL_TOKENS = 4
"""Synthetic prompts avoid the first ids, which tokenizers keep for bos, pad, eos and unk."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `start` to `start` + `length` - 1 of the endless text that `seed` stands for."""

    seed: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """A length and a content: real token ids, or seeds of which token i is a pure function.

    A prompt that is known by its length alone has the same tokens in every system, in every run and
    on every machine, and none of them exists before `ids` is called.

    Attributes:
        length: tokens, those of `prefix` included.
        seed: stands for the text behind the prefix.
        token_ids: the tokens themselves, where they are known; the whole prompt.
        prefix: what the prompt begins with: a text that others share, or the turns of a chat so far.
    """

    length: int
    seed: int = 0
    token_ids: tuple[int, ...] | None = None
    prefix: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        assert self.length >= sum(segment.length for segment in self.prefix), "the prefix is longer"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The whole prompt in pieces of text."""
        own_len = self.length - sum(segment.length for segment in self.prefix)
        return (*self.prefix, Segment(self.seed, 0, own_len))

    def contents(self) -> NDArray[np.int64] | NDArray[np.uint64]:
        """A number for every token, the same whatever the vocabulary; for hashing.  # [length]"""
        import numpy as np

        if self.token_ids is not None:
            return np.asarray(self.token_ids, dtype=np.int64)
        return np.concatenate([_text(segment) for segment in self.segments])

    def ids(self, vocab_size: int) -> NDArray[np.int64]:
        """The token ids.  # [length]

        Raises:
            ValueError: a real token lies outside the model's vocabulary.
        """
        import numpy as np

        if self.token_ids is not None:
            ids = np.asarray(self.token_ids, dtype=np.int64)
            if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
                raise ValueError(
                    f"the trace holds token {int(ids.max())}, but the model's vocabulary ends at "
                    f"{vocab_size - 1}: read the trace with the model's own tokenizer"
                )
            return ids
        ordinary = vocab_size - NUM_SPECIAL_TOKENS
        return (self.contents() % np.uint64(ordinary)).astype(np.int64) + NUM_SPECIAL_TOKENS


def _text(segment: Segment) -> NDArray[np.uint64]:
    """splitmix64 of (seed, position).  # [length]"""
    import numpy as np

    start = np.uint64((segment.seed * GOLDEN_GAMMA + 0x632BE59BD9B4E019) % 2**64)
    positions = np.arange(segment.start + 1, segment.start + segment.length + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return mix(start + positions * np.uint64(GOLDEN_GAMMA))


def mix(states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: neighbouring states give unrelated numbers; sums wrap around."""
    import numpy as np

    with np.errstate(over="ignore"):
        z = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the reply is decoded. Its length is forced: end-of-sequence is off, as in the paper's replay.

    Attributes:
        output_len: tokens of each sequence.
        n: parallel samples of one prompt.
        beam_width: beams, all of which are returned; None: no beam search.
        temperature: 0 is greedy.
        top_p: sample from the likeliest tokens whose probabilities reach this sum; 1: from all.
        top_k: sample from this many likeliest tokens; 0: from all.
        seed: of the random numbers, each of which belongs to (request, sequence, position).
    """

    output_len: int
    n: int = 1
    beam_width: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    @property
    def width(self) -> int:
        """Sequences that run side by side."""
        return self.beam_width or self.n


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace. `arrival_time` is in seconds of the run's clock, counted from its start."""

    request_id: int
    arrival_time: float
    prompt: Prompt
    sampling: SamplingParams

    @property
    def prompt_len(self) -> int:
        return self.prompt.length

    @property
    def output_len(self) -> int:
        return self.sampling.output_len

    @property
    def final_len(self) -> int:
        """Tokens of one finished sequence, prompt and reply."""
        return self.prompt.length + self.sampling.output_len


class Status(Enum):
    """Where a group stands. FAILED: it could never fit the pool, and was not started."""

    WAITING = "waiting"
    RUNNING = "running"
    SWAPPED = "swapped"
    FINISHED = "completed"
    FAILED = "failed"


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

    __slots__ = ("_counter", "_offset", "cumulative_logprob", "group", "output_ids", "sequence_id")

    def __init__(self, sequence_id: int, group: SequenceGroup) -> None:
        self.sequence_id = sequence_id
        self.group = group
        self.output_ids: list[int] = []  # stays empty where nothing is sampled (simulation)
        self.cumulative_logprob = 0.0
        self._counter = _STANDING_STILL
        self._offset = group.request.prompt_len

    def __repr__(self) -> str:
        return f"Sequence({self.sequence_id}, num_stored={self.num_stored})"

    @property
    def num_stored(self) -> int:
        """Tokens in the cache after this iteration; for a waiting sequence, those to be computed."""
        return self._counter.count + self._offset

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


@dataclass(slots=True, eq=False)
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

    def __post_init__(self) -> None:
        if not self.sequences:
            self.sequences = [Sequence(i, self) for i in range(self.request.sampling.width)]
        self.num_sequences = len(self.sequences)
        self.prompt_len = self.request.prompt_len
        self.final_len = self.request.final_len
