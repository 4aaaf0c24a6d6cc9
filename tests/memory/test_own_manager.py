"""A paged memory manager under another name: it keeps the contract and runs through `--memory`."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from cli.command import QUICK, make_command
from memory.contract import check_contract
from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.eviction import CachedBlock
from pagedbench.memory.manager import Allocation, KVManager
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.placement import BlockTable
from pagedbench.memory.prefix import block_hashes, stored_contents
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import pytest

    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Sequence, SequenceGroup


class Blocks(KVManager):
    """Block tables as in vLLM, but simple: the usage is recomputed, and every sample has its own prompt.

    Forks share blocks, and the cache holds the blocks of finished sequences.
    """

    attention: ClassVar[str] = "paged"
    swaps: ClassVar[bool] = True
    caches_prefixes: ClassVar[bool] = True

    def __init__(self, spec: PoolSpec) -> None:
        self.size = spec.block_size
        self.max_model_len = spec.max_model_len
        self.prefix_caching = spec.prefix_caching
        self.pool = BlockPool(spec.num_slots // self.size, self._forget)
        self.num_slots = self.pool.num_blocks * self.size
        self.num_host_slots = self.num_slots if spec.host_slots is None else spec.host_slots
        self.host = BlockPool(self.num_host_slots // self.size)
        self.watermark = self.pool.num_blocks // 100
        self.tables: dict[Sequence, list[int]] = {}
        self.host_tables: dict[Sequence, list[int]] = {}
        self.known: dict[bytes, int] = {}  # the hash of a block's content -> the block

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        return cls(pool)

    def _forget(self, blocks: list[int]) -> None:
        self.known = {digest: block for digest, block in self.known.items() if block not in blocks}

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.size)

    def _found(self, group: SequenceGroup) -> list[int]:
        """Cached blocks that the prompt begins with; at least one token is left to compute."""
        found: list[int] = []
        if self.prefix_caching:
            most = min(group.prompt_len, group.sequences[0].num_tokens - 1) // self.size
            for digest in block_hashes(group.request.prompt.contents(), self.size)[:most]:
                if digest not in self.known:
                    break
                found.append(self.known[digest])
        return found

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        n = group.num_sequences
        most = n * self._num_blocks(group.worst_case_len) + self.watermark
        if group.max_len > self.max_model_len or most > self.pool.num_blocks:
            return Allocation.NEVER
        found = self._found(group)
        needed = n * (self._num_blocks(group.sequences[0].num_tokens) - len(found))
        needed += self.pool.num_idle(found)
        fits = needed + self.watermark <= self.pool.num_free
        return Allocation.OK if fits else Allocation.LATER

    def prefill_len(self, group: SequenceGroup) -> int:
        num_new = group.sequences[0].num_tokens - len(self._found(group)) * self.size
        return group.num_sequences * num_new

    def allocate(self, group: SequenceGroup) -> list[int]:
        found, num_tokens = self._found(group), group.sequences[0].num_tokens
        for sequence in group.sequences:
            for block in found:
                self.pool.share(block)
            num_new = self._num_blocks(num_tokens) - len(found)
            self.tables[sequence] = found + self._taken(num_new)
        if self.prefix_caching:
            self.num_prefix_queried += num_tokens
            self.num_prefix_hits += len(found) * self.size
        return [len(found) * self.size] * group.num_sequences

    def _taken(self, number: int) -> list[int]:
        return [self.pool.take() for _ in range(number)]

    def room(self, sequence: Sequence) -> int:
        table = self.tables[sequence]
        is_shared = self.pool.num_owners(table[-1]) > 1
        return 0 if is_shared else len(table) * self.size - sequence.num_tokens

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free

    def append(self, sequence: Sequence) -> list[Copy]:
        table = self.tables[sequence]
        if len(table) * self.size == sequence.num_tokens:
            table.append(self.pool.take())
        elif self.pool.num_owners(table[-1]) > 1:  # copy on write
            shared, table[-1] = table[-1], self.pool.take()
            self.pool.release(shared)
            return self._copies([shared], table[-1:])
        return []

    def advance(self, num_sequences: int) -> None:
        """The usage is recomputed from the tables."""

    def _copies(self, sources: list[int], targets: list[int], *pools: Pool) -> list[Copy]:
        """Copies of whole blocks; `pools`: where from and where to, if not within the device."""
        pairs = zip(sources, targets, strict=True)
        return [Copy(one * self.size, other * self.size, self.size, *pools) for one, other in pairs]

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        for block in self.tables[parent]:
            self.pool.share(block)
        self.free(child)
        self.tables[child] = list(self.tables[parent])
        return []

    def free(self, sequence: Sequence) -> None:
        pool, tables = (
            (self.pool, self.tables) if sequence in self.tables else (self.host, self.host_tables)
        )
        for block in reversed(tables.pop(sequence)):
            pool.release(block)

    def finish(self, sequence: Sequence) -> None:
        if self.prefix_caching and sequence.group.request.sampling.beam_width is None:
            hashes = block_hashes(stored_contents(sequence), self.size)
            for digest, block in zip(hashes, self.tables[sequence], strict=False):
                if self.known.setdefault(digest, block) == block:
                    self.pool.keep([CachedBlock(block)])
        self.free(sequence)

    def can_swap_out(self, group: SequenceGroup) -> bool:
        return sum(len(self.tables[item]) for item in group.sequences) <= self.host.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        moves = []
        for sequence in group.sequences:
            table = self.tables[sequence]
            blocks = [self.host.take() for _ in table]
            moves += self._copies(table, blocks, Pool.DEVICE, Pool.HOST)
            self.free(sequence)
            self.host_tables[sequence] = blocks
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        needed = sum(len(self.host_tables[item]) for item in group.sequences)
        reserve = group.num_sequences + self.watermark if self.tables else 0
        return needed + reserve <= self.pool.num_free

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        moves = []
        for sequence in group.sequences:
            table = self.host_tables[sequence]
            blocks = self._taken(len(table))
            moves += self._copies(table, blocks, Pool.HOST, Pool.DEVICE)
            self.free(sequence)
            self.tables[sequence] = blocks
        return moves

    def placement(self, sequence: Sequence, layer_group: int = 0) -> BlockTable:
        return BlockTable(self.tables[sequence], self.size)

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        filled: dict[int, int] = {}  # block -> slots with a token
        ever: dict[int, int] = {}  # block -> slots that have or will have one
        for sequence, table in self.tables.items():
            for i, block in enumerate(table):
                filled[block] = min(sequence.num_tokens - i * self.size, self.size)
                ever[block] = min(sequence.group.final_len - i * self.size, self.size)
        tokens, final, taken = sum(filled.values()), sum(ever.values()), self.pool.num_used * self.size
        num_logical = sum(map(len, self.tables.values())) * self.size
        free = self.num_slots - taken
        return MemoryUsage(tokens, final - tokens, taken - final, 0, 0, free, shared=num_logical - taken)

    def check_integrity(self) -> None:
        for pool, tables in ((self.pool, self.tables), (self.host, self.host_tables)):
            pool.check_integrity(Counter(block for table in tables.values() for block in table))
        assert len(set(self.known.values())) == len(self.known)


def test_it_keeps_the_contract() -> None:
    check_contract(Blocks, lambda memory: set(), num_operations=2000)


def test_it_runs_as_the_built_in_manager_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without shared blocks, a manager with the same answers gets the same schedule."""
    monkeypatch.chdir(tmp_path)
    pagedbench, own = make_command(capsys), ("--memory", f"{__name__}:Blocks")
    options = (*QUICK, "--preemption", "swap", "--kv-slots", "3000", "--swap-space", "1GiB")
    for name, memory in (("own", own), ("paged", ())):
        answer = pagedbench("run", *options, *memory, "--output", name)
        assert (answer.code, answer.err) == (0, "")
    for file in ("requests.csv", "steps.csv"):
        assert (tmp_path / "own" / file).read_bytes() == (tmp_path / "paged" / file).read_bytes()
    with (tmp_path / "own" / "summary.csv").open(encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    assert (row["system"], row["valid"]) == ("Blocks", "True")
    assert int(row["preemptions_swap"]) > 0


def test_its_cache_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = (*QUICK, "--prefix-caching", "--shared-prefix-len", "64", "--output", "own")
    answer = make_command(capsys)("run", *options, "--memory", f"{__name__}:Blocks")
    assert (answer.code, answer.err) == (0, "")
    with (tmp_path / "own" / "summary.csv").open(encoding="utf-8") as lines:
        (row,) = csv.DictReader(lines)
    assert row["valid"] == "True"
    assert float(row["prefix_hit_pct"]) > 5
