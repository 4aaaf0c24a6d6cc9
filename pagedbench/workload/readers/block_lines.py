"""JSONL traces whose prompts are known by the ids of their blocks: Mooncake's and others', Bailian's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.workload.readers.block_numbers import BlockNumbers
from pagedbench.workload.rows import BlockIds, Reading, Row, Turn, collected, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.workload.readers.record import Record

MOONCAKE_BLOCK_SIZE = 512
BAILIAN_BLOCK_SIZE = 16


def read_blocks(records: Iterable[Record], source: str, block_size: int | None) -> Reading:
    """Rows of `timestamp` (ms), `input_length`, `output_length`, `hash_ids` and perhaps `block_size`.

    Args:
        block_size: tokens per block where the record does not say; 512 by default, as in Mooncake.
    """
    size = block_size or MOONCAKE_BLOCK_SIZE
    numbers = BlockNumbers(source)

    def rows() -> Iterator[Row]:
        for record in records:
            yield Row(
                record.length("input_length"),
                record.length("output_length"),
                arrival_time=record.optional_time("timestamp", unit=1e-3),
                blocks=blocks_of(record, "input_length", record.block_size() or size, numbers),
            )

    return Reading(in_order(collected(rows(), source), source))


def read_bailian(records: Iterable[Record], source: str, block_size: int | None) -> Reading:
    """Rows of Qwen-Bailian: a session is a first request and all that follow from it.

    A request whose parent is not in the file begins a session. Times are in seconds.

    Args:
        block_size: tokens per block; 16 by default.
    """
    size = block_size or BAILIAN_BLOCK_SIZE
    numbers = BlockNumbers(source)
    chats: dict[str, tuple[str, int, float]] = {}  # chat -> its session, turn and time
    num_turns: dict[str, int] = {}  # of every session

    def rows() -> Iterator[Row]:
        for record in records:
            chat, time = record.name("chat_id"), record.time("timestamp", low=0.0)
            parent = chats.get(record.name("parent_chat_id"))
            session = chat if parent is None else parent[0]
            index = num_turns.get(session, 0)
            num_turns[session] = index + 1
            chats[chat] = (session, index, time)
            turn = Turn(index) if parent is None else Turn(index, (parent[1],), None, time - parent[2])
            yield Row(
                record.length("input_length"),
                record.length("output_length"),
                arrival_time=time,
                session=session,
                blocks=blocks_of(record, "input_length", record.block_size() or size, numbers),
                turn=turn,
            )

    return Reading(in_order(collected(rows(), source), source))


def blocks_of(
    record: Record, length: str, size: int, numbers: BlockNumbers, ids: str = "hash_ids"
) -> BlockIds:
    """The blocks of a prompt. The last one may be cut, and later ones may be missing.

    Args:
        length, ids: the names of the fields with the prompt's length and the ids.

    Raises:
        TraceError: there are more ids than blocks, so that the size is wrong.
    """
    hashes = record.hashes(ids)
    most = -(-record.length(length) // size)
    if len(hashes) > most:
        raise record.error(
            length,
            f"its {len(hashes)} {ids} are more than the {most} blocks of {size} tokens that this takes: "
            "give the size of the trace's blocks in a field block_size, or with --trace-block-size",
        )
    return BlockIds(numbers.of(hashes), size)
