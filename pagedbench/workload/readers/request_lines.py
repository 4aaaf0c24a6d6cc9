"""JSONL traces of single requests: AIBrix's, and LLMServingSim's with token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.workload.readers.token_ids import TokenIds
from pagedbench.workload.rows import Reading, Row, TraceError, collected, in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.workload.readers.record import Record

_NAMES, _OLD_NAMES = ("prompt_length", "output_length"), ("Prompt Length", "Output Length")


def read_aibrix(records: Iterable[Record], source: str) -> Reading:
    """Rows of `timestamp` (ms) and `requests` at that time, with `prompt_length` and `output_length`.

    Older files write `Prompt Length` and `Output Length`. The lengths are the file's; its prompts are not
    tokenized. Sessions are not read: some of AIBrix's generators count earlier turns, and some do not.
    """
    num_unreadable = 0

    def rows() -> Iterator[Row]:
        nonlocal num_unreadable
        for record in records:
            time = record.time("timestamp", unit=1e-3, low=0.0)
            for request in record.records("requests"):
                prompt, output = _OLD_NAMES if _OLD_NAMES[0] in request.fields else _NAMES
                if request.has(output):
                    yield Row(request.length(prompt), request.length(output), arrival_time=time)
                else:
                    num_unreadable += 1

    found = in_order(collected(rows(), source), source)
    if not found:
        raise TraceError(f"no request of {source} has a prompt and a reply of known length")
    return Reading(found, num_unreadable)


def read_servingsim(records: Iterable[Record], source: str) -> Reading:
    """Rows of `input_toks`, `output_toks`, `arrival_time_ns`, and perhaps the ids of these tokens."""
    tokens = TokenIds(source)

    def rows() -> Iterator[Row]:
        for record in records:
            prompt_len, output_len = record.length("input_toks"), record.length("output_toks")
            ids = None
            if record.has("input_tok_ids"):
                prompt = tokens.of(record, "input_tok_ids")
                if len(prompt) != prompt_len:
                    raise record.error("input_toks", f"there are {len(prompt)} input_tok_ids")
                reply = tokens.of(record, "output_tok_ids") if record.has("output_tok_ids") else ()
                ids = prompt + reply
            time = record.optional_time("arrival_time_ns", unit=1e-9)
            yield Row(prompt_len, output_len, ids, time)

    return Reading(in_order(collected(rows(), source), source))
