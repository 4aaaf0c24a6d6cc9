"""Records of text: the prompts and replies of ShareGPT conversations and Alpaca instructions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pagedbench.workload.rows import MAX_RECORDS, Reading, Row, TraceError, collected, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pagedbench.workload.tokenizer import LoadTokenizer, TextTokenizer

PROMPT_SPEAKERS = frozenset({"human", "user"})
REPLY_SPEAKERS = frozenset({"gpt", "chatgpt", "assistant", "bing", "bard"})

MAX_TEXT_SIZE = 1_000_000
"""Most bytes of a prompt or reply; a tokenizer needs several hundred times as many for a moment."""

_TEXTS_PER_CALL = 2048
_CHARACTERS_PER_CALL = 100_000

Text = TypeVar("Text", "TextPair", "list[Turn]")


@dataclass(frozen=True, slots=True)
class TextPair:
    """A prompt and its reply, as text."""

    prompt: str
    reply: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The text of one speaker."""

    speaker: str
    text: str


def read_records(
    records: Iterable[object], source: str, load_tokenizer: LoadTokenizer, *, chat: bool = False
) -> Reading:
    """The rows of ShareGPT or Alpaca records; the first record decides which they are.

    Args:
        records: read one after the other, and not kept.
        chat: every answered turn of a conversation, instead of the first one.

    Raises:
        TraceError: the records are neither, one of them is malformed, or none has prompt and reply.
    """
    checked = ((_fields(record, i, source), i) for i, record in enumerate(records, start=1))
    first = next(checked, None)
    if first is None:
        raise TraceError(f"{source} holds no records")
    numbered = itertools.chain([first], checked)
    names = first[0]
    if "conversations" in names and chat:
        chats = (_answered(fields, i, source) for fields, i in numbered)
        return _read(chats, _chat_rows, source, load_tokenizer)
    if "conversations" in names:
        pairs = (_conversation(fields, i, source) for fields, i in numbered)
    elif "instruction" in names:
        pairs = (_instruction(fields, i, source) for fields, i in numbered)
    else:
        raise TraceError(
            f"{source} record 1 has neither conversations (ShareGPT) nor instruction (Alpaca): "
            f"its fields are {', '.join(shown(name) for name in list(names)[:6]) or 'none'}"
        )
    return _read(pairs, _pair_rows, source, load_tokenizer)


def _read(
    found: Iterable[Text | None],
    rows_of: Callable[[Iterator[Text], TextTokenizer], Iterator[Row]],
    source: str,
    load_tokenizer: LoadTokenizer,
) -> Reading:
    """The rows of the texts in the records. None stands for a record without a prompt and a reply."""
    num_unreadable = 0

    def readable() -> Iterator[Text]:
        nonlocal num_unreadable
        for text in found:
            if text is None:
                num_unreadable += 1
            else:
                yield text

    texts = readable()
    first = next(texts, None)
    if first is None:
        raise TraceError(f"no record of {source} has a prompt and a reply")
    rows = collected(rows_of(itertools.chain([first], texts), load_tokenizer()), source)
    return Reading(rows, num_unreadable, is_text=True)


def _fields(record: object, number: int, source: str) -> dict[str, object]:
    if number > MAX_RECORDS:
        raise TraceError(f"{source} has more than {MAX_RECORDS:,} records: keep only a part of it")
    if not isinstance(record, dict):
        raise TraceError(f"{source} record {number} is {shown(record)}, but must be an object with fields")
    return record


def _text(fields: dict[str, object], name: str, number: int, source: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise TraceError(f"{source} record {number}: {name} is {shown(value)}, but must be text")
    # A character is at most four bytes.
    if 4 * len(value) > MAX_TEXT_SIZE and len(value.encode("utf-8", "replace")) > MAX_TEXT_SIZE:
        raise TraceError(
            f"{source} record {number}: {name} is longer than {MAX_TEXT_SIZE:,} bytes: leave the record out"
        )
    return value


def _conversation(fields: dict[str, object], number: int, source: str) -> TextPair | None:
    """The first human turn and the first reply after it (the authors' selection), if any."""
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
    """Instruction and input with a space between them, even if the input is empty.

    Without the Alpaca template, this gives the paper's mean of 19.31 tokens.
    """
    instruction = _text(fields, "instruction", number, source)
    extra = _text(fields, "input", number, source) if "input" in fields else ""
    return TextPair(f"{instruction} {extra}", _text(fields, "output", number, source))


def _answered(fields: dict[str, object], number: int, source: str) -> list[Turn] | None:
    """The conversation, if it has a reply to a human."""
    turns = _turns(fields, number, source)
    return turns if any(map(_is_answer, turns, turns[1:])) else None


def _chat_rows(conversations: Iterator[list[Turn]], tokenizer: TextTokenizer) -> Iterator[Row]:
    """A row for every reply to a human; its prompt is the whole conversation before."""
    known: dict[int, int] = {}
    (opening,) = tokenizer.encode([""])  # special tokens before a text; here once per conversation
    for number, turns in enumerate(conversations, start=1):
        ids: list[int] = []
        ends = [0]
        for piece in _encoded((turn.text for turn in turns), tokenizer, known):
            is_inner = bool(ids) and piece[: len(opening)] == opening
            ids += piece[len(opening) :] if is_inner else piece
            ends.append(len(ids))
        yield from _turn_rows(turns, tuple(ids), ends, session=str(number))


def _turn_rows(turns: Sequence[Turn], ids: tuple[int, ...], ends: list[int], session: str) -> Iterator[Row]:
    """`ends`: where each turn ends in the conversation's `ids`, after a leading 0."""
    for index in range(len(turns) - 1):
        if _is_answer(turns[index], turns[index + 1]):
            prompt_len = ends[index + 1]
            yield Row(prompt_len, ends[index + 2] - prompt_len, ids, session=session)


def _is_answer(before: Turn, turn: Turn) -> bool:
    return before.speaker in PROMPT_SPEAKERS and turn.speaker in REPLY_SPEAKERS


def _pair_rows(pairs: Iterator[TextPair], tokenizer: TextTokenizer) -> Iterator[Row]:
    texts = (text for pair in pairs for text in (pair.prompt, pair.reply))
    ids = _encoded(texts, tokenizer, {})
    for prompt, reply in zip(ids, ids, strict=True):
        yield Row(len(prompt), len(reply), tuple(prompt))


def _encoded(texts: Iterable[str], tokenizer: TextTokenizer, known: dict[int, int]) -> Iterator[list[int]]:
    """The token ids of every text. A tokenizer's answer is a hundred times as large as the ids that are
    kept, so it gets a few texts at a time.

    Args:
        known: one int object for each id so far, so that millions of tokens take 8 bytes each.
    """
    batch, size = list[str](), 0
    for text in itertools.chain(texts, [None]):
        if text is not None:
            batch.append(text)
            size += len(text)
        if text is None or len(batch) == _TEXTS_PER_CALL or size > _CHARACTERS_PER_CALL:
            for ids in tokenizer.encode(batch):
                yield [known.setdefault(token, token) for token in ids]
            batch, size = [], 0
