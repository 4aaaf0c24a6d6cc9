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

_BLOCK_SEEDS = 2**63 + 2**62
"""Seeds of the texts of blocks begin here; those of prompts and replies are smaller."""


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
class Blocks:
    """The beginning of a prompt, known by ids: equal ids stand for equal tokens up to the block's end.

    ::

        ids     |     7      |     9      |  4  |
        tokens  0          size      2 * size   length

    Attributes:
        ids: whole numbers from 0, one per block; prompts that share the first k blocks share k ids.
        size: tokens per block; if lengths were scaled it need not be whole, and blocks end at the
            nearest token.
        length: tokens of the blocks together; the last one may be cut.
    """

    ids: tuple[int, ...]
    size: float
    length: int

    def of_tokens(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of the blocks that hold the tokens at these positions.  # [n] -> [n]"""
        import numpy as np

        ends = np.floor(self.size * np.arange(1, len(self.ids) + 1) + 0.5)  # [number of ids]
        return np.asarray(self.ids, dtype=np.int64)[np.searchsorted(ends, positions, side="right")]

    def keys(self, block_size: int) -> list[int]:
        """A number for every full block of `block_size` tokens; two prompts of one trace have equal numbers
        exactly where their ids say that all tokens up to the block's end are equal.

        No token is made. A block of ours that begins in one block of the trace and ends in another is
        identified by the latter: a size that does not divide the trace's finds less in common, never more.
        """
        import numpy as np

        ends = np.arange(block_size, self.length + 1, block_size, dtype=np.int64)  # [number of blocks]
        keys: list[int] = (self.of_tokens(ends - 1) << 32 | ends).tolist()
        return keys


@dataclass(frozen=True, slots=True)
class Prompt:
    """A length and a content: real token ids, or seeds that determine every token.

    A prompt that is known only by its length has the same tokens in every system, every run and on every
    machine. They do not exist before `ids` is called.

    Attributes:
        length: tokens, those of `prefix` included.
        seed: determines the text after the prefix.
        token_ids: the tokens of the whole prompt, if they are known.
        prefix: the beginning of the prompt: a text that other prompts share, earlier turns of a chat, or
            blocks whose ids a trace gives.
        reply_ids: the reply in the trace, if its tokens are known.
    """

    length: int
    seed: int = 0
    token_ids: tuple[int, ...] | None = None
    prefix: tuple[Segment | Tokens | Blocks, ...] = ()
    reply_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.length >= sum(piece.length for piece in self.prefix), "the prefix is longer"

    @property
    def segments(self) -> tuple[Segment | Tokens | Blocks, ...]:
        """The whole prompt as pieces of text."""
        own_len = self.length - sum(piece.length for piece in self.prefix)
        return (*self.prefix, Segment(self.seed, 0, own_len)) if own_len else self.prefix

    def contents(self, start: int = 0) -> NDArray[np.uint64]:
        """A number for every token from `start` on, the same whatever the vocabulary; for hashing.

        # [length - start]
        """
        import numpy as np

        if self.token_ids is not None:
            return np.asarray(self.token_ids[start:], dtype=np.uint64)
        parts = []
        for piece in self.segments:
            if start < piece.length:
                parts.append(_text(piece, start))
            start = max(start - piece.length, 0)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)

    def block_keys(self, block_size: int) -> list[int]:
        """`Blocks.keys` of a prompt that begins with blocks; nothing for others."""
        first = self.prefix[0] if self.prefix else None
        return first.keys(block_size) if isinstance(first, Blocks) else []

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
            assert self.token_ids is not None, "all turns have token ids, or none has"
            return replace(following, token_ids=(*self.token_ids, *reply, *following.token_ids[stop:]))
        rest = Segment(following.seed, stop, following.length - stop)
        return replace(following, prefix=(*self.segments, Tokens(reply), rest))


def text_contents(seed: int, length: int) -> NDArray[np.uint64]:
    """The first tokens of the text that `seed` determines, as `Prompt.contents`.  # [length]"""
    return _text(Segment(seed, 0, length))


def _text(piece: Segment | Tokens | Blocks, skipped: int = 0) -> NDArray[np.uint64]:
    """splitmix64 of (seed, position), without the first tokens; known tokens as they are.

    # [length - skipped]
    """
    import numpy as np

    if isinstance(piece, Tokens):
        return np.asarray(piece.ids[skipped:], dtype=np.uint64)
    first = piece.start if isinstance(piece, Segment) else 0
    positions = np.arange(first + skipped, first + piece.length, dtype=np.uint64)
    seeds: NDArray[np.uint64] | np.uint64
    if isinstance(piece, Segment):
        seeds = np.uint64(piece.seed)
    else:
        seeds = np.uint64(_BLOCK_SEEDS) + piece.of_tokens(positions.astype(np.int64)).astype(np.uint64)
    with np.errstate(over="ignore"):
        starts = seeds * np.uint64(GOLDEN_GAMMA) + np.uint64(0x632BE59BD9B4E019)
        return mix(starts + (positions + np.uint64(1)) * np.uint64(GOLDEN_GAMMA))


def mix(states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser: neighbouring states give unrelated numbers; sums wrap around."""
    import numpy as np

    with np.errstate(over="ignore"):
        z = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
