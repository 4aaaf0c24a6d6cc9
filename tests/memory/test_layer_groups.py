"""Two layer groups with different windows: their tables begin late, and their tokens are the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from memory.contents import group_of
from memory.contract import check_contract
from memory.windowed import Windowed
from models.folders import make_llama_folder
from pagedbench.memory.manager import Allocation
from pagedbench.models.loader import load_model
from pagedbench.ops import reference
from pagedbench.ops.addresses import BlockTables
from pagedbench.request import DecodeCounter

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from pagedbench.models.decoder import Decoder
    from pagedbench.models.layers import Rotation
    from pagedbench.request import Sequence


def test_it_keeps_the_contract() -> None:
    check_contract(Windowed, num_operations=2000)


def grown(memory: Windowed, prompt_len: int, num_steps: int) -> Sequence:
    """A sequence that has stored its prompt and then so many tokens of its reply."""
    group, counter = group_of(0, prompt_len, num_steps + 2), DecodeCounter()
    assert memory.can_allocate(group) is Allocation.OK
    memory.allocate(group)
    (sequence,) = group.sequences
    sequence.start(counter)
    for _ in range(num_steps):
        if memory.room(sequence) == 0:
            memory.append(sequence)
        counter.count += 1
        memory.advance(1)
        memory.check_integrity()
    return sequence


def test_tables_begin_late_and_sinks_stay() -> None:
    memory = Windowed(400, 4, 200)
    sequence = grown(memory, prompt_len=30, num_steps=0)
    before = [memory.placement(sequence, group) for group in (0, 1)]
    assert [(len(table.blocks), table.first_position) for table in before] == [(8, 8), (8, 0)]
    sequence = grown(memory, prompt_len=30, num_steps=20)  # 50 tokens
    wide, narrow = (memory.placement(sequence, group) for group in (0, 1))
    # Sinks in blocks 0 and 1; the window of 12 begins at position 38, that of 4 at position 46.
    assert (len(wide.blocks), wide.num_sink_blocks, wide.first_position) == (2 + 4, 2, 36)
    assert (len(narrow.blocks), narrow.num_sink_blocks, narrow.first_position) == (2, 0, 44)
    assert wide.slots(3, 6) == [wide.blocks[0] * 4 + 3, wide.blocks[1] * 4, wide.blocks[1] * 4 + 1]
    assert wide.slots(38, 41) == [wide.blocks[2] * 4 + 2, wide.blocks[2] * 4 + 3, wide.blocks[3] * 4]
    assert narrow.slots(46, 50) == [narrow.blocks[0] * 4 + 2, narrow.blocks[0] * 4 + 3,
                                    narrow.blocks[1] * 4, narrow.blocks[1] * 4 + 1]  # fmt: skip


def test_usage_counts_the_tokens_that_a_group_still_needs() -> None:
    memory = Windowed(400, 4, 200)
    sequence = grown(memory, prompt_len=30, num_steps=20)
    usage = memory.usage(head_refused=False)
    assert usage.token_states == (5 + 12) + 4
    assert usage.reserved == 2 + 2  # in each group two tokens of the reply are left
    assert usage.token_states + usage.reserved + usage.internal == 8 * 4
    assert usage.capacity == memory.num_slots
    memory.free(sequence)
    assert memory.usage(head_refused=False).free == memory.num_slots


def test_long_replies_need_no_more_than_their_windows() -> None:
    memory = Windowed(2 * 10 * 4, 4, 200)
    assert memory.can_allocate(group_of(0, 20, 21)) is Allocation.OK  # 40 tokens, 10 blocks in each group
    assert memory.can_allocate(group_of(0, 20, 22)) is Allocation.NEVER
    sequences = [grown(memory, prompt_len=12, num_steps=20) for _ in range(2)]
    assert all(len(memory.placement(sequence, 0).blocks) <= 6 for sequence in sequences)


class Attention:
    """Stores the new tokens of a text, and lets each see what its layer group keeps. See `Attend`."""

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        rotation: Rotation | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        assert rotation is not None
        number = next(i for i, group in enumerate(Windowed.layer_groups) if layer in group.layers)
        keys, values, slots = self.cache(layer, number, key)
        angles = (rotation.cosine, rotation.sine)
        reference.rotate_and_write_kv(query, key, value, keys, values, slots, *angles)
        out = self.attend(number, query, keys, values)
        return out if rows is None else out.index_select(0, rows)


class Definition(Attention):
    """The whole text at once, without a pool: every token, and which of the others it sees."""

    def cache(self, layer: int, number: int, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.empty_like(key), torch.empty_like(key), torch.arange(len(key))

    def attend(self, number: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        is_seen = torch.zeros(len(query), len(query), dtype=torch.bool)  # [asking, asked]
        for position, row in enumerate(is_seen):
            for part in Windowed.layer_groups[number].kept(position + 1):
                row[part.start : part.stop] = True
        repeats = query.shape[1] // keys.shape[1]
        keys, values = (side.repeat_interleave(repeats, dim=1) for side in (keys, values))
        scores = torch.einsum("ihd,jhd->hij", query, keys) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~is_seen, -torch.inf).softmax(-1)
        return torch.einsum("hij,jhd->ihd", weights, values)


class Paged(Attention):
    """The newest tokens of a sequence, by the reference operation over the manager's tables.

    The layers of both groups share tensors: a slot is room for one token in the layers of one group.
    """

    def __init__(self, memory: Windowed, kv_heads: int, head_dim: int) -> None:
        self.memory = memory
        shape = (2, 2, memory.num_slots, kv_heads, head_dim)  # keys and values, layers of a group
        self.caches = torch.full(shape, float("nan"))

    def begin(self, sequence: Sequence, num_new: int) -> None:
        self.sequence, self.num_new = sequence, num_new

    def cache(self, layer: int, number: int, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        table, length = self.memory.placement(self.sequence, number), self.sequence.num_stored
        keys, values = self.caches[:, Windowed.layer_groups[number].layers.index(layer)]
        return keys, values, torch.tensor(table.slots(length - self.num_new, length))

    def attend(self, number: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        table, group = self.memory.placement(self.sequence, number), Windowed.layer_groups[number]
        blocks = torch.tensor([table.blocks], dtype=torch.int32)
        first = torch.tensor([table.first_position], dtype=torch.int32)
        addresses = BlockTables(blocks, table.block_size, first)
        lens = torch.tensor([self.sequence.num_stored], dtype=torch.int32)
        scale, window, sinks = query.shape[-1] ** -0.5, group.window, group.sinks
        if len(query) == 1:
            return reference.attend_decode(query, keys, values, addresses, lens, scale, window, sinks)
        starts = torch.tensor([0, len(query)], dtype=torch.int32)
        return reference.attend_prefill(query, keys, values, addresses, starts, lens, scale, window, sinks)


def next_token(model: Decoder, tokens: list[int], num_new: int, attend: Attention) -> int:
    """What the model says after `tokens`, of which it computes the last `num_new`."""
    ids, positions = torch.tensor(tokens)[-num_new:], torch.arange(len(tokens))[-num_new:]
    states = model.forward(ids, positions, attend, torch.tensor([num_new - 1]))
    return int(model.greedy(states))


@pytest.mark.usefixtures("one_thread")
def test_tokens_are_those_of_the_definition(tmp_path: Path) -> None:
    """Of two sequences side by side, which store tokens in blocks that the other one has freed."""
    folder = make_llama_folder(tmp_path / "model", num_layers=4, num_kv_heads=2)
    model = load_model(str(folder), dtype=torch.float32, ops=reference).model
    memory = Windowed(26 * 4, 4, 200)
    attend = Paged(memory, model.shape.num_kv_heads, model.shape.head_dim)
    groups = [group_of(order, length, 24) for order, length in enumerate((9, 14))]
    texts = [group.request.prompt.ids(model.shape.vocab_size).tolist() for group in groups]
    counter = DecodeCounter()
    used: list[set[int]] = [set(), set()]
    with torch.inference_mode():
        for step in range(24):
            counter.count += step > 0
            for group, tokens in zip(groups, texts, strict=True):
                (sequence,) = group.sequences
                if step == 0:
                    assert memory.can_allocate(group) is Allocation.OK
                    memory.allocate(group)
                    sequence.start(counter)
                num_new = 1 if step else len(tokens)
                attend.begin(sequence, num_new)
                expected = next_token(model, tokens, len(tokens), Definition())
                assert next_token(model, tokens, num_new, attend) == expected
                tokens.append(expected)
                used[group.order].update(memory.placement(sequence).blocks)
            for sequence in (group.sequences[0] for group in groups):
                if memory.room(sequence) == 0:
                    memory.append(sequence)
    assert used[0] & used[1]
