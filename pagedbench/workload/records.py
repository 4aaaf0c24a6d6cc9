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


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says."""

    speaker: str
    text: str


def read_records(
    records: Sequence[object], source: str, load_tokenizer: LoadTokenizer, *, chat: bool = False
) -> Reading:
    """Rows of ShareGPT or Alpaca records; the first record says which they are.

    Args:
        chat: every turn of a conversation that is answered, not the first alone.

    Raises:
        TraceError: the records are neither, one of them is malformed, or none has prompt and reply.
    """
    if not records:
        raise TraceError(f"{source} holds no records")
    first = _fields(records[0], 1, source)
    if "conversations" in first and chat:
        numbered = enumerate(records, start=1)
        return _read_chats(
            [_turns(_fields(r, i, source), i, source) for i, r in numbered], source, load_tokenizer
        )
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
    prompt: str | None = None
    for turn in _turns(fields, number, source):
        if prompt is None and turn.speaker in PROMPT_SPEAKERS:
            prompt = turn.text
        elif prompt is not None and turn.speaker in REPLY_SPEAKERS:
            return TextPair(prompt, turn.text)
    return None


def _turns(fields: dict[str, object], number: int, source: str) -> list[Turn]:
    turns = fields.get("conversations")
    if not isinstance(turns, list):
        raise TraceError(f"{source} record {number}: conversations is {shown(turns)}, but must be a list")
    found = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise TraceError(
                f"{source} record {number}: a turn is {shown(turn)}, but must have from and value"
            )
        found.append(Turn(_text(turn, "from", number, source), _text(turn, "value", number, source)))
    return found


def _instruction(fields: dict[str, object], number: int, source: str) -> TextPair:
    """Instruction and input with a space between them, also where the input is empty.

    This, without the Alpaca template, gives the paper's mean of 19.31 tokens.
    """
    instruction = _text(fields, "instruction", number, source)
    extra = _text(fields, "input", number, source) if "input" in fields else ""
    return TextPair(f"{instruction} {extra}", _text(fields, "output", number, source))


def _read_chats(
    conversations: Sequence[Sequence[Turn]], source: str, load_tokenizer: LoadTokenizer
) -> Reading:
    """A row for every reply to a human: the prompt is all that was said before."""
    answered = [turns for turns in conversations if any(map(_is_answer, turns, turns[1:]))]
    if not answered:
        raise TraceError(f"no record of {source} has a prompt and a reply")
    tokenizer, rows = load_tokenizer(), list[Row]()
    (opening,) = tokenizer.encode([""])  # what the model expects before a text, once
    for number, turns in enumerate(answered, start=1):
        ids: list[int] = []
        ends = [0]
        for piece in tokenizer.encode([turn.text for turn in turns]):
            is_inner = bool(ids) and piece[: len(opening)] == opening
            ids += piece[len(opening) :] if is_inner else piece
            ends.append(len(ids))
        rows += _turn_rows(turns, tuple(ids), ends, session=str(number))
    return Reading(tuple(rows), num_unreadable=len(conversations) - len(answered), is_text=True)


def _turn_rows(turns: Sequence[Turn], ids: tuple[int, ...], ends: list[int], session: str) -> Iterable[Row]:
    """`ends`: where each turn ends in the conversation's `ids`, after a leading 0."""
    for index in range(len(turns) - 1):
        if _is_answer(turns[index], turns[index + 1]):
            prompt_len = ends[index + 1]
            yield Row(prompt_len, ends[index + 2] - prompt_len, ids, session=session)


def _is_answer(before: Turn, turn: Turn) -> bool:
    return before.speaker in PROMPT_SPEAKERS and turn.speaker in REPLY_SPEAKERS


def _tokenized(pairs: Sequence[TextPair], tokenizer: TextTokenizer) -> Iterable[Row]:
    known: dict[int, int] = {}  # one int object an id: millions of tokens then cost 8 bytes each
    for start in range(0, len(pairs), _ROWS_PER_CALL):
        part = pairs[start : start + _ROWS_PER_CALL]
        prompts = tokenizer.encode([pair.prompt for pair in part])
        replies = tokenizer.encode([pair.reply for pair in part])
        for prompt, reply in zip(prompts, replies, strict=True):
            yield Row(len(prompt), len(reply), tuple(known.setdefault(token, token) for token in prompt))
