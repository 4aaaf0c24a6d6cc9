"""The columns that distinguish the runs of a table: the options in which they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagedbench.config import plain
from pagedbench.runs.numbers import number
from pagedbench.show.table import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Sequence as Items

    Row = Mapping[str, Any]

SYSTEM = Column("system", name="system", is_key=True, is_text=True)

TEXTS = ("model", "device", "kv_dtype", "trace", "arrival", "prefill", "preemption", "victim", "eviction",
         "admission", "page_size", "kept_pages", "criterion")  # fmt: skip

OPTIONS = {
    name: Column(heading, name=name, is_key=True, is_text=name in TEXTS)
    for name, heading in {
        "model": "model",
        "device": "device",
        "tensor_parallel_size": "ranks",
        "kv_dtype": "KV dtype",
        "kv_slots": "KV slots",
        "device_kv_slots": "KV slots",
        "trace": "trace",
        "arrival": "arrival",
        "rate": "rate",
        "seed": "seed",
        "n": "n",
        "beam_width": "beams",
        "block_size": "block size",
        "max_num_seqs": "max seqs",
        "max_num_batched_tokens": "max tokens",
        "preemption": "preemption",
        "victim": "victim",
        "admission": "admission",
        "prefix_caching": "prefix cache",
        "eviction": "eviction",
        "watermark": "watermark",
        "prefill": "prefill",
        "page_size": "page",
        "commit_ahead": "tokens ahead",
        "kept_pages": "kept pages",
        "criterion": "criterion",
    }.items()
}
"""Options besides the system that may differ between the rows of a table, and their columns."""


def varying(rows: Items[Row]) -> list[str]:
    """The options in which rows of the same system differ.

    Pools that differ only because they were rounded to whole blocks are the same pool.
    """
    systems = {row["system"] for row in rows}
    names = [
        name
        for name in OPTIONS
        if name in rows[0] and len({(row["system"], str(row[name])) for row in rows}) > len(systems)
    ]
    return [name for name in names if not (name.endswith("kv_slots") and is_one_pool(rows, name))]


def is_one_pool(rows: Iterable[Row], name: str = "kv_slots") -> bool:
    """Are the slots of all rows the same, rounded down to whole blocks?"""
    slots, block_sizes = zip(*((row[name], row["block_size"]) for row in rows), strict=True)
    return bool(max(slots) - min(slots) < max(block_sizes))


def option_text(row: Row, name: str) -> str:
    """The value of an option of a row."""
    value = row[name]
    return number(value) if value is None or name.endswith("kv_slots") else plain(value)


def identity_columns(names: Iterable[str]) -> tuple[Column, ...]:
    """The columns that name a row."""
    return (SYSTEM, *(OPTIONS[name] for name in names))


def identity(row: Row, names: Iterable[str]) -> list[str]:
    """The cells of `identity_columns`."""
    return [row["system"], *(option_text(row, name) for name in names)]
