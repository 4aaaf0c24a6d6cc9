"""The text of a reply: whole characters as tokens come, and nothing from a stop string on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pagedbench.tools.serve.choice import Choice
from pagedbench.tools.serve.live_request import NewTokens
from pagedbench.tools.serve.texts import GrowingText, TokenizedTexts
from pagedbench.workload.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def of_bytes(token_ids: Sequence[int]) -> str:
    """A decoder whose tokens are bytes."""
    return bytes(token_ids).decode("utf-8", "replace")


def parts_of(items: list[int], sizes: list[int]) -> list[list[int]]:
    parts, start = [], 0
    for size in [*sizes, len(items)]:
        parts.append(items[start : start + size])
        start += size
    return parts


@given(st.text(max_size=30), st.lists(st.integers(1, 5), max_size=30))
def test_characters_come_whole_and_in_order(text: str, sizes: list[int]) -> None:
    growing, out = GrowingText(of_bytes), []
    for part in parts_of(list(text.encode("utf-8", "replace")), sizes):
        out.append(growing.feed(part))
        assert not out[-1].endswith("\N{REPLACEMENT CHARACTER}")
    whole = text.encode("utf-8", "replace").decode()
    assert "".join(out) + growing.rest() == whole


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_not_waited_for(data: bytes) -> None:
    growing = GrowingText(of_bytes)
    for number, byte in enumerate(data):
        growing.feed([byte])
        assert len(growing._held) < 4, number


@given(
    st.text("abc", max_size=40),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(1, 4), max_size=40),
)
def test_a_reply_ends_before_the_first_stop_string(text: str, stop: list[str], sizes: list[int]) -> None:
    choice = Choice(GrowingText(of_bytes), tuple(stop), eos_ids=())
    out, token_ids = "", []
    for part in parts_of(list(text.encode()), sizes):
        piece = choice.feed(NewTokens(0, part, [0.0] * len(part), False), is_last=False)
        out += piece.text
        token_ids += piece.token_ids
        if choice.finish_reason is not None:
            break
    else:
        out += choice.feed(NewTokens(0, [], [], False), is_last=True).text
    # The string that is complete first; of several that end together the one that began first.
    ends = [text.find(item) + len(item) for item in stop if item in text]
    if not ends:
        assert (out, choice.finish_reason, choice.num_tokens) == (text, "length", len(text))
        return
    begins = [min(ends) - len(item) for item in stop if text[: min(ends)].endswith(item)]
    assert out == text[: min(begins)]
    assert choice.finish_reason == "stop"
    assert choice.stop_reason == text[min(begins) : min(ends)]
    assert (choice.num_tokens, bytes(token_ids).decode()) == (min(ends), text[: min(ends)])


def test_a_stop_token_ends_it_without_text(test_data: Path) -> None:
    texts = TokenizedTexts(load_tokenizer(test_data / "models/stories260K/hf"))
    prompt, reply = texts.encode("Once upon"), texts.encode("Once upon a time")[3:]
    for eos_ids, reason in (((2,), None), ((), 2)):
        choice = Choice(texts.growing(prompt), (), eos_ids)
        piece = choice.feed(NewTokens(0, [*reply, 2], [0.0] * 3, True), is_last=False)
        assert (piece.text, choice.finish_reason, choice.stop_reason) == (" a time", "stop", reason)
    assert texts.name_of(reply[-1]) == "time"
