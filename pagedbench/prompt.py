"""Prompt: a length and a content, which is token ids or text that seeds determine."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """Tokens `start` to `start` + `length` - 1 of the endless text that `seed` determines."""

    seed: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """A part of a prompt with known token ids, such as a reply of the model."""

    ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A length and a content: real token ids, or seeds, of which token i is a pure function.

    A prompt that is known only by its length has the same tokens in every system, every run and on every
    machine. They do not exist before `ids` is called.

    Attributes:
        length: tokens, those of `prefix` included.
        seed: determines the text after the prefix.
        token_ids: the tokens of the whole prompt, if they are known.
        prefix: the beginning of the prompt: a text that other prompts share, or earlier turns of a chat.
        reply_ids: the reply in the trace, if its tokens are known.
    """

    length: int
    seed: int = 0
    token_ids: tuple[int, ...] | None = None
    prefix: tuple[Segment | Tokens, ...] = ()
    reply_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.length >= sum(piece.length for piece in self.prefix), "the prefix is longer"

    @property
    def segments(self) -> tuple[Segment | Tokens, ...]:
        """The whole prompt as pieces of text."""
        own_len = self.length - sum(piece.length for piece in self.prefix)
        return (*self.prefix, Segment(self.seed, 0, own_len)) if own_len else self.prefix

    def contents(self) -> NDArray[np.uint64]:
        """A number for every token, the same whatever the vocabulary; for hashing.  # [length]"""
        import numpy as np

        if self.token_ids is not None:
            return np.asarray(self.token_ids, dtype=np.uint64)
        return np.concatenate([_text(piece) for piece in self.segments])

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
        ordinary = np.uint64(vocab_size - NUM_SPECIAL_TOKENS)
        return np.concatenate(
            [
                np.asarray(piece.ids, dtype=np.int64)
                if isinstance(piece, Tokens)
                else (_text(piece) % ordinary).astype(np.int64) + NUM_SPECIAL_TOKENS
                for piece in self.segments
            ]
        )

    def reply_contents(self, length: int) -> NDArray[np.uint64] | None:
        """The first tokens of the trace's own reply, as `contents`; None if unknown.  # [length]"""
        import numpy as np

        last = self.segments[-1] if self.token_ids is None else None
        if isinstance(last, Segment):
            return _text(Segment(last.seed, last.start + last.length, length))
        known = self.reply_ids[:length]
        return np.asarray(known, dtype=np.uint64) if len(known) == length else None

    def continued(self, reply: tuple[int, ...], following: Prompt) -> Prompt:
        """The next prompt of a conversation, with the model's reply to this one in it.

        Args:
            reply: replaces the trace's reply.
            following: the next prompt as the trace has it; it begins with this prompt and a reply of
                the same length.
        """
        stop = self.length + len(reply)
        if following.token_ids is not None:
            assert self.token_ids is not None, "a conversation is of tokens, or of lengths"
            return replace(following, token_ids=(*self.token_ids, *reply, *following.token_ids[stop:]))
        rest = Segment(following.seed, stop, following.length - stop)
        return replace(following, prefix=(*self.segments, Tokens(reply), rest))


def text_contents(seed: int, length: int) -> NDArray[np.uint64]:
    """The first tokens of the text that `seed` determines, as `Prompt.contents`.  # [length]"""
    return _text(Segment(seed, 0, length))


def _text(segment: Segment | Tokens) -> NDArray[np.uint64]:
    """splitmix64 of (seed, position); known tokens as they are.  # [length]"""
    import numpy as np

    if isinstance(segment, Tokens):
        return np.asarray(segment.ids, dtype=np.uint64)
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
