"""Fields: reads the fields of a request, each with its type and its range."""

from __future__ import annotations

import math
from typing import Any

from pagedbench.tools.serve.refusal import Refusal


class Fields:
    """The fields of one request. A null field counts as left out."""

    def __init__(self, document: Any, name: str | None = None) -> None:
        """Raises Refusal: it is not a JSON object. `name`: the name of its field; None: it is the body."""
        if not isinstance(document, dict):
            raise Refusal(400, f"{name or 'the body'} must be a JSON object", name)
        self._left: dict[str, Any] = {name: value for name, value in document.items() if value is not None}

    def take(self, name: str, default: Any = None) -> Any:
        """An unchecked value."""
        return self._left.pop(name, default)

    def integer(self, name: str, default: int, least: int, most: int = 2**63 - 1) -> int:
        """A whole number from `least` to `most`."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Refusal(
                400, f"{name} must be a whole number {_range(least, most)}, not {shown(value)}", name
            )
        return value

    def optional(self, name: str, least: int = 0) -> int | None:
        """A whole number of at least `least`, or None."""
        return self.integer(name, 0, least) if name in self._left else None

    def number(self, name: str, default: float, least: float, most: float = math.inf) -> float:
        """A finite number from `least` to `most`."""
        value = self.take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
        if not is_number or not least <= value <= most:
            raise Refusal(400, f"{name} must be a number {_range(least, most)}, not {shown(value)}", name)
        return float(value)

    def switch(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise Refusal(400, f"{name} must be true or false, not {shown(value)}", name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A text or a list of texts, none of them empty."""
        value = self.take(name, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            raise Refusal(400, f"{name} must be a text or a list of texts, none of them empty", name)
        return tuple(items)

    def ids(self, name: str, vocab_size: int) -> tuple[int, ...]:
        """A list of token ids."""
        return token_ids(self.take(name, []), name, vocab_size)

    def refuse_unless(self, neutral: dict[str, tuple[Any, ...]]) -> None:
        """Refuse fields that would change the reply and are not implemented, unless they have no effect."""
        for name, values in neutral.items():
            value = self.take(name, values[0])
            if value not in values:
                raise Refusal(400, f"{name} is not implemented: leave it out", name)

    def finish(self, ignored: frozenset[str]) -> None:
        """Refuse fields that were not read."""
        unknown = sorted(name for name in self._left if name not in ignored)
        if unknown:
            raise Refusal(400, f"unknown field {unknown[0]!r}: nothing here would read it", unknown[0])


def token_ids(value: Any, name: str, vocab_size: int) -> tuple[int, ...]:
    """A list of token ids.

    Raises:
        Refusal: it is not one, or an id is not in the vocabulary.
    """
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise Refusal(400, f"{name} must be a list of token ids", name)
    if value and (min(value) < 0 or max(value) >= vocab_size):
        wrong = min(value) if min(value) < 0 else max(value)
        raise Refusal(400, f"{name} holds token {wrong}, and the vocabulary is 0 to {vocab_size - 1}", name)
    return tuple(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _range(least: float, most: float) -> str:
    return f"of at least {least:g}" if most in (math.inf, 2**63 - 1) else f"from {least:g} to {most:g}"


def shown(value: object) -> str:
    """A value for an error message, of limited length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
