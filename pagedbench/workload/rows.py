"""Rows: what a trace of any format is read into, and the errors of reading one."""

from __future__ import annotations

import difflib
import itertools
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.config import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH = 2**31 - 1
"""A longer prompt or reply is a mistake in the file, not a request."""

MAX_ARRIVAL_TIME = 1e9
"""Seconds, 30 years: a later time is a time of day, not a time since the start."""

MAX_SIZE = 700_000_000
"""Most bytes for reading a data set: 4 million rows of lengths, or 80 million tokens of text."""

MAX_RECORDS = 5_000_000
"""Most records: files with more, such as conversations without a reply, are refused."""

_ROW_SIZE, _TIME_SIZE, _TURN_SIZE = 160, 32, 200
_TOKEN_SIZE = 8  # a reference; equal tokens, or ids of blocks, are one object
_BLOCK_ID_SIZE = 32  # of that object
_MAKING_SIZE = 500  # of each token of the longest text, while a tokenizer and its threads work on it

_SHOWN_LEN = 40
_REASON_LEN = 160


class TraceError(InputError):
    """A trace, or what is asked of it, is wrong."""


@dataclass(frozen=True, slots=True)
class BlockIds:
    """The ids of a prompt's blocks: equal ids stand for equal tokens, those before the block included.

    Attributes:
        ids: whole numbers from 0, one per block; the last block may be cut or missing.
        size: tokens per block; need not be whole where lengths were scaled.
    """

    ids: tuple[int, ...]
    size: float


@dataclass(frozen=True, slots=True)
class Turn:
    """The place of a row in its session. Times in seconds, as the trace recorded them.

    Attributes:
        index: number of the turn in its session, from 0.
        waits_for: turns whose replies it needs; none for the first.
        think_time: between the last of these replies and this turn; None: not recorded.
        gap: between the sending of the latest of these turns and that of this one.
        api_time: between the sending of the latest of these turns and its reply.
    """

    index: int
    waits_for: tuple[int, ...] = ()
    think_time: float | None = None
    gap: float = 0.0
    api_time: float = 0.0


class Row(NamedTuple):
    """One row of a data set: lengths in tokens, and optional facts.

    Attributes:
        token_ids: of the prompt, or of a whole conversation that begins with the prompt.
        arrival_time: seconds, from the file's own column.
        session: the conversation that the row is a turn of. If only lengths are known, `prompt_len` counts
            the new text alone (`sessions.with_histories` adds the turns before).
        n, beam_width: the row's own decoding; None: the run's. A beam width of 1 means no beam search.
        blocks: the blocks of the prompt, where the trace has ids of their contents.
        turn: what the row waits for; None: the row before it in its session.
    """

    prompt_len: int
    output_len: int
    token_ids: tuple[int, ...] | None = None
    arrival_time: float | None = None
    session: str | None = None
    n: int | None = None
    beam_width: int | None = None
    blocks: BlockIds | None = None
    turn: Turn | None = None

    @property
    def has_whole_prompt(self) -> bool:
        """Does the prompt include the turns before it, so that nothing has to be added?"""
        return self.token_ids is not None or self.blocks is not None

    @property
    def prompt_ids(self) -> tuple[int, ...] | None:
        """The prompt's own token ids."""
        return None if self.token_ids is None else self.token_ids[: self.prompt_len]

    @property
    def reply_ids(self) -> tuple[int, ...]:
        """The tokens after the prompt: the reply, if `token_ids` are a whole conversation."""
        stop = self.prompt_len
        return () if self.token_ids is None else self.token_ids[stop : stop + self.output_len]


@dataclass(frozen=True, slots=True)
class Reading:
    """The rows of a file, in file order.

    Attributes:
        num_unreadable: records that lack a prompt or a reply, left out.
        is_text: the file holds text, whose tokens a tokenizer has counted.
    """

    rows: tuple[Row, ...]
    num_unreadable: int = 0
    is_text: bool = False


class RowMemory:
    """Counts the bytes that rows need while they are read."""

    def __init__(self, source: str) -> None:
        """`source`: the file's name, for the error message."""
        self._source = source
        self._num_rows = 0
        self._size = 0
        self._longest = 0
        self._num_block_ids = 0
        self._counted: tuple[int, ...] | None = None

    def add(self, row: Row) -> None:
        """Count one more row. Ids of blocks are numbered from 0, so the largest says how many there are.

        Raises:
            TraceError: the rows would take more than `MAX_SIZE` bytes.
        """
        self._num_rows += 1
        self._size += _ROW_SIZE
        if row.arrival_time is not None:
            self._size += _TIME_SIZE
        if row.session is not None:
            self._size += sys.getsizeof(row.session)
        ids = row.token_ids
        if ids is not None and ids is not self._counted:  # turns of a session share theirs
            self._counted = ids
            self._size += _TOKEN_SIZE * len(ids)
            self._longest = max(self._longest, len(ids))
        if row.blocks is not None:
            self._add_blocks(row.blocks.ids)
        if row.turn is not None:
            self._size += _TURN_SIZE
        if self._size + _MAKING_SIZE * self._longest > MAX_SIZE:
            raise TraceError(
                f"{self._source} is too large: up to row {self._num_rows:,} it needs {MAX_SIZE / 1e6:g} MB "
                "of memory; keep only the part of it that you need"
            )

    def _add_blocks(self, ids: tuple[int, ...]) -> None:
        num_new = max(max(ids, default=-1) + 1 - self._num_block_ids, 0)
        self._num_block_ids += num_new
        self._size += _TURN_SIZE + _TOKEN_SIZE * len(ids) + _BLOCK_ID_SIZE * num_new


def collected(rows: Iterable[Row], source: str) -> tuple[Row, ...]:
    """The rows as a tuple; `source` is the file's name.

    Raises:
        TraceError: they would take more than `MAX_SIZE` bytes.
    """
    found: list[Row] = []
    memory = RowMemory(source)
    for row in rows:
        memory.add(row)
        found.append(row)
    return tuple(found)


def in_order(rows: tuple[Row, ...], source: str) -> tuple[Row, ...]:
    """Rows sorted by arrival, as they must be; times of day are counted from the first of them.

    Raises:
        TraceError: only some rows have a time, or they span more than 30 years.
    """
    times = [row.arrival_time for row in rows if row.arrival_time is not None]
    if not times:
        return rows
    if len(times) < len(rows):
        raise TraceError(
            f"{source} has times for {len(times):,} of its {len(rows):,} requests: give all of them a "
            "time, or none"
        )
    if any(before > after for before, after in itertools.pairwise(times)):
        rows = tuple(sorted(rows, key=lambda row: row.arrival_time or 0.0))
    first, last = min(times), max(times)
    if first >= 0 and last <= MAX_ARRIVAL_TIME:
        return rows
    if last - first > MAX_ARRIVAL_TIME:
        raise TraceError(f"{source} spans more than {MAX_ARRIVAL_TIME:g} seconds: correct its times")
    shifted = list(rows)
    del rows, times  # so that memory never holds all rows twice
    for index, row in enumerate(shifted):
        shifted[index] = row._replace(arrival_time=(row.arrival_time or 0.0) - first)
    return tuple(shifted)


def shown(value: object) -> str:
    """A value from a file for an error message: quoted, on one line, and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_LEN else f"{text[:_SHOWN_LEN]}..."


def reason(error: BaseException) -> str:
    """The reason of a library's error in a few words, where its message has several lines."""
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], _REASON_LEN, placeholder=" ...")


def unknown_name(what: str, name: str, known: Iterable[str]) -> TraceError:
    """The error for a name that is not among the `known`; it suggests what may have been meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return TraceError(f"unknown {what} {shown(name)}: {hint}there is {', '.join(names)}")
