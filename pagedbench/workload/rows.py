"""What every trace is read into, whatever its format: rows of lengths, and what was wrong if not."""

from __future__ import annotations

import difflib
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LENGTH = 2**31 - 1
"""A longer prompt or reply is a mistake in the file, not a request."""

_SHOWN_LEN = 40
_REASON_LEN = 160


class TraceError(ValueError):
    """A trace, or what is asked of it, is wrong; the message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set: lengths in tokens, the prompt's ids and the arrival where known.

    Attributes:
        arrival_time: seconds, from the file's own column.
    """

    prompt_len: int
    output_len: int
    token_ids: tuple[int, ...] | None = None
    arrival_time: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds, in file order.

    Attributes:
        num_unreadable: records without a prompt and a reply, left out.
        is_text: the file holds text, which a tokenizer has turned into lengths.
    """

    rows: tuple[Row, ...]
    num_unreadable: int = 0
    is_text: bool = False


def shown(value: object) -> str:
    """A value from a file as it may stand in an error message: quoted, on one line, and short."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_LEN else f"{text[:_SHOWN_LEN]}..."


def reason(error: BaseException) -> str:
    """Why a library failed, in a few words; libraries answer with paragraphs."""
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], _REASON_LEN, placeholder=" ...")


def unknown_name(what: str, name: str, known: Iterable[str]) -> TraceError:
    """The error for a name that is none of `known`: what there is, and what may have been meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=2)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return TraceError(f"unknown {what} {shown(name)}: {hint}there is {', '.join(names)}")
