"""Reads traces that a test writes as text or as JSON."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from pagedbench.workload.formats import parse

if TYPE_CHECKING:
    from pagedbench.workload.rows import Reading


class NoTokenizer:
    """For traces without text."""

    def __init__(self) -> None:
        raise AssertionError("nothing is tokenized")


class LetterTokenizer:
    """One token a letter."""

    def encode(self, texts):
        return [[ord(letter) for letter in text] for text in texts]


def read(text: str | bytes, block_size: int | None = None) -> Reading:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(io.BufferedReader(io.BytesIO(data)), "trace", NoTokenizer, block_size=block_size)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
