"""Which blocks hold which beginnings of prompts: found by a hash chained over the tokens before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pagedbench.prompt import text_contents
from pagedbench.request import SequenceGroup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagedbench.request import Sequence

DIGEST_SIZE = 16

NUM_TEXTS, MAX_SEQUENCES = 2**63, 2**20
"""Seeds of prompts are below the first; requests have fewer sequences than the second."""


def block_hashes(contents: NDArray[np.uint64], block_size: int) -> list[bytes]:
    """A hash for every full block of the tokens; equal exactly if all tokens up to its end are equal."""
    digest, hashes = b"", []
    for start in range(0, len(contents) - block_size + 1, block_size):
        tokens = contents[start : start + block_size].tobytes()
        digest = hashlib.blake2b(digest + tokens, digest_size=DIGEST_SIZE).digest()
        hashes.append(digest)
    return hashes


def stored_contents(sequence: Sequence) -> NDArray[np.uint64]:
    """A number for every stored token of a sequence, as `Prompt.contents`.  # [num_stored]

    What a model has sampled; in simulation the trace's own reply, or a text that no other request has.
    """
    import numpy as np

    request = sequence.group.request
    prompt, length = request.prompt, sequence.num_stored - request.prompt_len
    if sequence.output_ids:
        reply = np.asarray(sequence.output_ids[:length], dtype=np.uint64)
        return np.concatenate([prompt.contents(), reply])
    known = prompt.reply_contents(length) if sequence.sequence_id == 0 else None
    if known is None:
        seed = NUM_TEXTS + request.request_id * MAX_SEQUENCES + sequence.sequence_id
        known = text_contents(seed, length)
    return np.concatenate([prompt.contents(), known])


class PrefixIndex:
    """Blocks by the hash of their content.

    Attributes:
        pinned: blocks of registered prefixes, which never leave.
        uncomputed: pinned blocks that no request has computed yet.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.pinned: set[int] = set()
        self.uncomputed: set[int] = set()
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._hashes = WeakKeyDictionary[SequenceGroup, list[bytes]]()  # of groups that wait

    def find(self, group: SequenceGroup) -> list[int]:
        """Blocks of the longest known beginning of the prompt; one token at least is left to compute."""
        most = min(group.request.prompt_len, group.sequences[0].num_tokens - 1) // self.block_size
        blocks = []
        for digest in self._hashes_of(group)[:most]:
            block = self._block_of.get(digest)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def _hashes_of(self, group: SequenceGroup) -> list[bytes]:
        hashes = self._hashes.get(group)
        if hashes is None:
            hashes = self._hashes[group] = block_hashes(group.request.prompt.contents(), self.block_size)
        return hashes

    def num_computed(self, found: list[int]) -> int:
        """How many of these blocks, from the first on, hold what they should."""
        return next((i for i, block in enumerate(found) if block in self.uncomputed), len(found))

    def insert_prompt(self, group: SequenceGroup, blocks: list[int]) -> list[int]:
        """Remember the first full blocks of a prompt. Returns those that hold something new."""
        hashes = self._hashes_of(group)
        return [block for digest, block in zip(hashes, blocks, strict=False) if self.insert(digest, block)]

    def insert_finished(self, sequence: Sequence, table: list[int]) -> list[int]:
        """Remember the full blocks of a finished sequence, reply included; returns as `insert_prompt`."""
        hashes = block_hashes(stored_contents(sequence), self.block_size)
        return [block for digest, block in zip(hashes, table, strict=False) if self.insert(digest, block)]

    def insert(self, digest: bytes, block: int) -> bool:
        """Remember what the block holds. Returns False if some block holds the same already."""
        if digest in self._block_of:
            return False
        self._block_of[digest] = block
        self._hash_of[block] = digest
        return True

    def drop_hashes(self, group: SequenceGroup) -> None:
        """The group waits no longer."""
        self._hashes.pop(group, None)

    def forget(self, block: int) -> None:
        """The block holds something else from now on."""
        del self._block_of[self._hash_of.pop(block)]

    def check_integrity(self) -> None:
        inverse = {block: digest for digest, block in self._block_of.items()}
        assert inverse == self._hash_of, "the index is torn"
        assert self.uncomputed <= self.pinned <= set(self._hash_of), "a pinned block is unknown"
