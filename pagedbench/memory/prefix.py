"""Which blocks hold which prefixes of prompts: found by a key that stands for all tokens so far."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from pagedbench.memory.eviction import CachedBlock
from pagedbench.prompt import text_contents
from pagedbench.request import SequenceGroup

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    import numpy as np
    from numpy.typing import NDArray

    from pagedbench.memory.cache_observer import CacheObserver
    from pagedbench.prompt import Prompt
    from pagedbench.request import Sequence

DIGEST_SIZE = 16

NUM_TEXTS, MAX_SEQUENCES = 2**63, 2**20
"""Seeds of prompts are below the first; requests have fewer sequences than the second."""


Key: TypeAlias = "int | bytes | tuple[int, Key]"
"""What a block is found by: a number that a trace's own ids determine, or a hash of its tokens; with the
number of a layer group before it, where a manager has several."""


def block_hashes(contents: NDArray[np.uint64], block_size: int, digest: bytes = b"") -> list[bytes]:
    """A hash for every full block of the tokens; equal exactly if all tokens up to its end are equal.

    Args:
        digest: of the tokens before the first.
    """
    hashes = []
    for start in range(0, len(contents) - block_size + 1, block_size):
        tokens = contents[start : start + block_size].tobytes()
        digest = hashlib.blake2b(digest + tokens, digest_size=DIGEST_SIZE).digest()
        hashes.append(digest)
    return hashes


def prompt_keys(prompt: Prompt, block_size: int) -> list[Key]:
    """A key for every full block of a prompt."""
    keys: list[Key] = [*prompt.block_keys(block_size)]
    rest = prompt.contents(len(keys) * block_size)
    return keys + block_hashes(rest, block_size, _digest_of(keys))


def continued_keys(prompt: Prompt, reply: NDArray[np.uint64], block_size: int) -> list[Key]:
    """A key for every full block of a prompt and the reply after it (numbers as in `Prompt.contents`)."""
    import numpy as np

    keys: list[Key] = [*prompt.block_keys(block_size)]
    rest = np.concatenate([prompt.contents(len(keys) * block_size), reply])
    return keys + block_hashes(rest, block_size, _digest_of(keys))


def reply_keys(sequence: Sequence, block_size: int, prompt: list[Key]) -> list[Key]:
    """A key for every full block of a sequence's stored tokens after those of its prompt.

    Args:
        prompt: `prompt_keys` of its prompt.
    """
    rest = stored_contents(sequence, len(prompt) * block_size)
    return [*block_hashes(rest, block_size, _digest_of(prompt))]


def _digest_of(keys: list[Key]) -> bytes:
    """The digest of all tokens that these keys stand for."""
    last = keys[-1] if keys else b""
    return last if isinstance(last, bytes) else str(last).encode()


def stored_contents(sequence: Sequence, start: int = 0) -> NDArray[np.uint64]:
    """A number for every stored token from position `start` on, which is at most the prompt's length.

    The reply is what the model has sampled; in simulation the trace's own, or text that no other request
    has.  # [num_stored - start]
    """
    import numpy as np

    request = sequence.group.request
    prompt, length = request.prompt, sequence.num_stored - request.prompt_len
    if sequence.output_ids:
        reply = np.asarray(sequence.output_ids[:length], dtype=np.uint64)
        return np.concatenate([prompt.contents(start), reply])
    known = prompt.reply_contents(length) if sequence.sequence_id == 0 else None
    if known is None:
        seed = NUM_TEXTS + request.request_id * MAX_SEQUENCES + sequence.sequence_id
        known = text_contents(seed, length)
    return np.concatenate([prompt.contents(start), known])


class PrefixIndex:
    """Blocks by the key of their content.

    Attributes:
        pinned: blocks of registered prefixes, which never leave.
        uncomputed: pinned blocks that no request has computed yet.
        observer: is told of every change.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.pinned: set[int] = set()
        self.uncomputed: set[int] = set()
        self.observer: CacheObserver | None = None
        self._block_of: dict[Key, int] = {}
        self._key_of: dict[int, Key] = {}
        self._num_changes = 0
        self._question: tuple[SequenceGroup, int, int] | None = None  # arguments of the latest `find`
        self._answer: list[int] = []
        self._keys = WeakKeyDictionary[SequenceGroup, list[Key]]()  # of groups that wait or run

    def find(self, group: SequenceGroup) -> list[int]:
        """Blocks of the longest known prefix of the prompt; at least one token is left to compute."""
        most = self._most(group)
        question = (group, most, self._num_changes)
        if question != self._question:  # the head of the queue is looked up again and again
            self._question = question
            self._answer = self.longest(self._keys_of(group)[:most])
        return self._answer

    def longest(self, keys: Items[Key]) -> list[int]:
        """Blocks of the longest known prefix of the contents with these keys."""
        found = []
        for block in map(self._block_of.get, keys):
            if block is None:
                break
            found.append(block)
        return found

    def holds(self, key: Key) -> bool:
        """Does a block hold the content with this key?"""
        return key in self._block_of

    def _most(self, group: SequenceGroup) -> int:
        """How many blocks of the prompt may be found."""
        return min(group.request.prompt_len, group.sequences[0].num_tokens - 1) // self.block_size

    def missing(self, group: SequenceGroup) -> Items[Key]:
        """The keys of those blocks of the prompt that `find` looks for and does not find."""
        found = self.find(group)
        if self.num_computed(found) < len(found):
            return ()
        return self._keys_of(group)[len(found) : self._most(group)]

    def _keys_of(self, group: SequenceGroup) -> list[Key]:
        keys = self._keys.get(group)
        if keys is None:
            keys = self._keys[group] = prompt_keys(group.request.prompt, self.block_size)
        return keys

    def num_computed(self, found: list[int]) -> int:
        """How many of these blocks, from the first on, have been computed."""
        return next((i for i, block in enumerate(found) if block in self.uncomputed), len(found))

    def insert_prompt(self, group: SequenceGroup, blocks: list[int]) -> list[CachedBlock]:
        """Remember the first full blocks of a prompt. Returns those that hold something new."""
        keys = self._keys_of(group)
        return self.insert(keys, blocks)

    def insert_finished(self, sequence: Sequence, table: list[int]) -> list[CachedBlock]:
        """Remember the full blocks of a finished sequence, reply included; returns as `insert_prompt`."""
        prompt = self._keys_of(sequence.group)
        reply, num_known = reply_keys(sequence, self.block_size, prompt), len(prompt)
        if list(map(self._block_of.get, prompt)) == table[:num_known]:  # usual: nothing to look for there
            return self.insert(reply, table[num_known:], num_known)
        return self.insert(prompt + reply, table)

    def insert(self, keys: Items[Key], blocks: Items[int], first: int = 0) -> list[CachedBlock]:
        """Remember what the blocks hold. Keys are distinct; the rest of the longer sequence is ignored.

        Returns the blocks that hold something new: contents that another block holds are left out.

        Args:
            first: blocks of the prompt before the first of these.
        """
        known, size = self._block_of, self.block_size
        new = [
            CachedBlock(block, key, index * size, size)
            for index, (key, block) in enumerate(zip(keys, blocks, strict=False), first)
            if key not in known
        ]
        for cached in new:
            known[cached.key] = cached.number
            self._key_of[cached.number] = cached.key
        if new:
            self._num_changes += 1
            if self.observer is not None:
                self.observer.kept(new)
        return new

    def drop_keys(self, group: SequenceGroup) -> None:
        """Forget the keys of a group that has left."""
        self._keys.pop(group, None)

    def forget(self, blocks: Items[int]) -> list[Key]:
        """Forget the contents of these blocks. Returns the keys of these contents."""
        keys = list(map(self._key_of.pop, blocks))
        for key in keys:
            del self._block_of[key]
        self._num_changes += 1
        if self.observer is not None:
            self.observer.evicted(blocks, keys)
        return keys

    def check_integrity(self) -> None:
        inverse = {block: key for key, block in self._block_of.items()}
        assert inverse == self._key_of, "the index is torn"
        assert self.uncomputed <= self.pinned <= set(self._key_of), "a pinned block is unknown"
