"""Token ids in JSON: `{"requests": [{"prompt": [ids], "out": n}]}`, and ids in lines of other traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.workload.lengths_csv import MAX_WIDTH
from pagedbench.workload.readers.record import record_of
from pagedbench.workload.rows import MAX_LENGTH, Row, TraceError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.workload.readers.record import Record

MAX_VOCABULARY = 300_000
"""Most different tokens in a file; the largest vocabularies have 0.26 million."""

_TOKEN_FIELDS = frozenset({"prompt", "out"})
_WIDTH_FIELDS = ("n", "beam_width")


class TokenIds:
    """Token ids as one int object each, so that millions of tokens take 8 bytes each."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._known: dict[int, int] = {}

    def of(self, record: Record, name: str) -> tuple[int, ...]:
        """The ids in a field.

        Raises:
            TraceError: it holds something else, or the file has more different ids than any vocabulary.
        """
        known = self._known
        ids = tuple([known.setdefault(token, token) for token in record.ids(name, MAX_LENGTH)])
        if len(known) > MAX_VOCABULARY:
            raise TraceError(
                f"{self._source} holds more than {MAX_VOCABULARY:,} different token ids, more than any "
                "model knows: correct its prompts"
            )
        return ids


def token_rows(requests: Iterable[object], source: str) -> Iterator[Row]:
    """The rows of requests whose prompts are token ids."""
    tokens = TokenIds(source)
    for number, request in enumerate(requests, start=1):
        if not isinstance(request, dict) or not _has_token_fields(request):
            raise TraceError(
                f'{source} request {number} is {shown(request)}, but must have "prompt" and "out", '
                'and may have "n" or "beam_width"'
            )
        record = record_of(request, f"{source} request {number}")
        ids, output_len = tokens.of(record, "prompt"), record.length("out")
        n, beam_width = (record.whole(name, 1, MAX_WIDTH) for name in _WIDTH_FIELDS)
        if (n or 1) > 1 and (beam_width or 1) > 1:
            raise TraceError(f"{record.place} has both n and beam_width: leave out one of them")
        yield Row(len(ids), output_len, ids, n=n, beam_width=beam_width)


def _has_token_fields(request: dict[str, object]) -> bool:
    return _TOKEN_FIELDS <= request.keys() <= _TOKEN_FIELDS | set(_WIDTH_FIELDS)
