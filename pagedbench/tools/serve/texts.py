"""Texts: turns prompts into token ids, and growing replies into text; with or without a tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.workload.tokenizer import FastTokenizer

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""A decoder's output for bytes that are not yet a whole character."""

MAX_HELD_TOKENS = 4
"""The most tokens to wait for: a character has at most four bytes, each of which may be a token."""


NUM_CONTEXT_TOKENS = 5
"""The first text of a reply is decoded together with this many tokens of the prompt."""


class Growing(Protocol):
    """The growing text of one reply."""

    def feed(self, token_ids: Items[int]) -> str:
        """The text that these tokens add. A character is added with its last token."""
        ...

    def rest(self) -> str:
        """The text that was held back; no token follows."""
        ...


class Texts(Protocol):
    """Converts between a model's text and tokens."""

    def encode(self, text: str) -> list[int]:
        """The token ids of a prompt.

        Raises:
            Refusal: the model has no tokenizer.
        """
        ...

    def growing(self, prompt: Items[int]) -> Growing:
        """The text of a new reply to a prompt."""
        ...

    def name_of(self, token: int) -> str:
        """The text of one token."""
        ...


class TokenizedTexts:
    """Text with a tokenizer."""

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode([text])[0]

    def growing(self, prompt: Items[int]) -> Growing:
        return GrowingText(self._tokenizer.decode, prompt[-NUM_CONTEXT_TOKENS:])

    def name_of(self, token: int) -> str:
        return self._tokenizer.decode([token])


class NumberTexts:
    """Text without a tokenizer: replies are token ids in decimal, each followed by a space."""

    def encode(self, text: str) -> list[int]:
        raise Refusal(
            400,
            "this model has no tokenizer, so the prompt must be a list of token ids; the server takes "
            "text when it is started with --tokenizer",
            "prompt",
        )

    def growing(self, prompt: Items[int]) -> Growing:
        return GrowingNumbers()

    def name_of(self, token: int) -> str:
        return str(token)


class GrowingNumbers:
    """Token ids in decimal."""

    def feed(self, token_ids: Items[int]) -> str:
        return "".join(f"{token} " for token in token_ids)

    def rest(self) -> str:
        return ""


class GrowingText:
    """Decodes a few tokens at a time: the last ones stay as context of the next ones."""

    def __init__(self, decode: Callable[[Items[int]], str], context: Items[int] = ()) -> None:
        """`context`: the end of the prompt; the first tokens of a text may be decoded differently."""
        self._decode = decode
        self._context = list(context)
        self._held: list[int] = []

    def feed(self, token_ids: Items[int]) -> str:
        text = ""
        for token in token_ids:
            self._held.append(token)
            text += self._next(MAX_HELD_TOKENS)
        return text

    def rest(self) -> str:
        return self._next(0)

    def _next(self, max_held: int) -> str:
        """The text of the tokens that are held back; empty while a character is incomplete."""
        whole = self._decode([*self._context, *self._held])
        if whole.endswith(INCOMPLETE) and len(self._held) < max_held:
            return ""
        known = self._decode(self._context)
        self._context, self._held = self._held, []
        return whole[len(known) :]
