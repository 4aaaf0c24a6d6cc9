"""Which blocks hold which beginnings of prompts: found by a hash chained over the tokens before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.request import Prompt, SequenceGroup

DIGEST_SIZE = 16


def block_hashes(prompt: Prompt, block_size: int) -> list[bytes]:
    """A hash for every full block of the prompt; equal exactly if all tokens up to its end are equal."""
    contents = prompt.contents()
    digest, hashes = b"", []
    for start in range(0, prompt.length - block_size + 1, block_size):
        tokens = contents[start : start + block_size].tobytes()
        digest = hashlib.blake2b(digest + tokens, digest_size=DIGEST_SIZE).digest()
        hashes.append(digest)
    return hashes


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
        self._hashes: dict[SequenceGroup, list[bytes]] = {}  # of groups that wait

    def find(self, group: SequenceGroup) -> list[int]:
        """Blocks of the longest known beginning of the prompt; one token at least is left to compute."""
        most = min(group.request.prompt_len, group.sequences[0].num_stored - 1) // self.block_size
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
            hashes = self._hashes[group] = block_hashes(group.request.prompt, self.block_size)
        return hashes

    def num_computed(self, found: list[int]) -> int:
        """How many of these blocks, from the first on, hold what they should."""
        return next((i for i, block in enumerate(found) if block in self.uncomputed), len(found))

    def use(self, found: list[int]) -> int:
        """A group is admitted with these blocks. Returns how many of its tokens are in the cache."""
        num_computed = self.num_computed(found)
        self.uncomputed.difference_update(found)  # the group computes the rest in this very iteration
        return num_computed * self.block_size

    def insert_prompt(self, group: SequenceGroup, table: list[int]) -> list[int]:
        """Remember the full blocks of the group's prompt. Returns those that hold something new."""
        hashes = self._hashes_of(group)
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
