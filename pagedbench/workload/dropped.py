"""The rows of a data set that cannot be requests of a run, and the mean without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.workload.rows import Row


@dataclass(frozen=True, slots=True)
class Dropped:
    """The rows that were left out because of their lengths.

    Attributes:
        num_rows: all rows of the data set.
        num_empty: rows with a length below 1.
        num_long: other rows with prompt + output of `max_model_len` or more.
        mean_prompt_before, mean_prompt_after: tokens; of all rows, and of the remaining ones.
    """

    num_rows: int
    num_empty: int
    num_long: int
    max_model_len: int
    mean_prompt_before: float
    mean_prompt_after: float

    @property
    def number(self) -> int:
        return self.num_empty + self.num_long

    @property
    def share(self) -> float:
        """The share of all rows that was dropped, from 0 to 1."""
        return self.number / self.num_rows


def without_unfit(
    rows: Sequence[Row], max_model_len: int, prefix_len: int
) -> tuple[list[Row], Dropped | None]:
    """The rows that may become requests, and what was dropped (None: no row, or all of them).

    Args:
        prefix_len: tokens that precede every prompt, and count as part of it.
    """
    filled = [row for row in rows if not _is_empty(row)]
    left = [row for row in filled if prefix_len + _total_len(row) < max_model_len]
    if not left or len(left) == len(rows):
        return left, None
    num_empty, num_long = len(rows) - len(filled), len(filled) - len(left)
    means = (prefix_len + sum(row.prompt_len for row in some) / len(some) for some in (rows, left))
    return left, Dropped(len(rows), num_empty, num_long, max_model_len, *means)


def longest_len(rows: Iterable[Row]) -> int:
    """Tokens of the longest prompt + output among rows that are not empty; 0 if all are."""
    return max((_total_len(row) for row in rows if not _is_empty(row)), default=0)


def _is_empty(row: Row) -> bool:
    return row.prompt_len < 1 or row.output_len < 1


def _total_len(row: Row) -> int:
    return row.prompt_len + row.output_len
