"""What a prompt and a reply are in a record of text: ShareGPT conversations and Alpaca instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.workload.rows import Reading, Row, TraceError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.workload.tokenizer import LoadTokenizer, TextTokenizer

PROMPT_SPEAKERS = frozenset({"human", "user"})
REPLY_SPEAKERS = frozenset({"gpt", "chatgpt", "assistant", "bing", "bard"})

_ROWS_PER_CALL = 1024  # a tokenizer's answers are a hundred times as large as the ids that are kept


@dataclass(frozen=True, slots=True)
class TextPair:
    """A prompt and its reply, as text."""

    prompt: str
    reply: str


def read_records(records: Sequence[object], source: str, load_tokenizer: LoadTokenizer) -> Reading:
    """Rows of ShareGPT or Alpaca records; the first record says which they are.

    Raises:
        TraceError: the records are neither, one of them is malformed, or none has prompt and reply.
    """
    if not records:
        raise TraceError(f"{source} holds no records")
    first = _fields(records[0], 1, source)
    if "conversations" in first:
        found = [_conversation(_fields(r, i, source), i, source) for i, r in enumerate(records, start=1)]
    elif "instruction" in first:
        found = [_instruction(_fields(r, i, source), i, source) for i, r in enumerate(records, start=1)]
    else:
        raise TraceError(
            f"{source} record 1 has neither conversations (ShareGPT) nor instruction (Alpaca): "
            f"its fields are {', '.join(shown(name) for name in list(first)[:6]) or 'none'}"
        )
    pairs = [pair for pair in found if pair is not None]
    if not pairs:
        raise TraceError(f"no record of {source} has a prompt and a reply")
    rows = tuple(_tokenized(pairs, load_tokenizer()))
    return Reading(rows, num_unreadable=len(found) - len(pairs), is_text=True)


def _fields(record: object, number: int, source: str) -> dict[str, object]:
    if not isinstance(record, dict):
        raise TraceError(f"{source} record {number} is {shown(record)}, but must be an object with fields")
    return record


def _text(fields: dict[str, object], name: str, number: int, source: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise TraceError(f"{source} record {number}: {name} is {shown(value)}, but must be text")
    return value


def _conversation(fields: dict[str, object], number: int, source: str) -> TextPair | None:
    """The first human turn and the first reply after it (PAPER: the authors' selection), if any."""
    turns = fields.get("conversations")
    if not isinstance(turns, list):
        raise TraceError(f"{source} record {number}: conversations is {shown(turns)}, but must be a list")
    prompt: str | None = None
    for turn in turns:
        if not isinstance(turn, dict):
            raise TraceError(
                f"{source} record {number}: a turn is {shown(turn)}, but must have from and value"
            )
        speaker = _text(turn, "from", number, source)
        if prompt is None and speaker in PROMPT_SPEAKERS:
            prompt = _text(turn, "value", number, source)
        elif prompt is not None and speaker in REPLY_SPEAKERS:
            return TextPair(prompt, _text(turn, "value", number, source))
    return None


def _instruction(fields: dict[str, object], number: int, source: str) -> TextPair:
    """Instruction and input with a space between them, also where the input is empty.

    This, without the Alpaca template, gives the paper's mean of 19.31 tokens.
    """
    instruction = _text(fields, "instruction", number, source)
    extra = _text(fields, "input", number, source) if "input" in fields else ""
    return TextPair(f"{instruction} {extra}", _text(fields, "output", number, source))


def _tokenized(pairs: Sequence[TextPair], tokenizer: TextTokenizer) -> Iterable[Row]:
    known: dict[int, int] = {}  # one int object an id: millions of tokens then cost 8 bytes each
    for start in range(0, len(pairs), _ROWS_PER_CALL):
        part = pairs[start : start + _ROWS_PER_CALL]
        prompts = tokenizer.encode([pair.prompt for pair in part])
        replies = tokenizer.encode([pair.reply for pair in part])
        for prompt, reply in zip(prompts, replies, strict=True):
            yield Row(len(prompt), len(reply), tuple(known.setdefault(token, token) for token in prompt))
