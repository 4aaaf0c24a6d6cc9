"""The tokens behind the slots: a device and a host pool in which every slot holds a token with a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pagedbench.prompt import Prompt, Segment
from pagedbench.request import Request, SamplingParams, SequenceGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pagedbench.memory.manager import Copy

Token: TypeAlias = object
"""Equal exactly where keys and values would be equal: a prompt token's content, or a name of its own."""


class Contents:
    """What the slots hold. Changes are executed in the order that a batch prescribes."""

    def __init__(self) -> None:
        self.device: dict[int, Token] = {}
        self.host: dict[int, Token] = {}

    def move(self, swap_outs: Iterable[Copy], copies: Iterable[Copy], swap_ins: Iterable[Copy]) -> None:
        """Swap-outs, then swap-ins, then copies, all of which read before any writes."""
        _copy(self.device, self.host, swap_outs)
        _copy(self.host, self.device, swap_ins)
        _copy(self.device, self.device, copies)

    def write(self, cells: Iterable[tuple[int, Token]], live: Mapping[int, Token]) -> None:
        """Store tokens in slots; a token that may still be read must not change."""
        for slot, token in cells:
            assert live.get(slot, token) == token, f"slot {slot} is written, but its token is in use"
            self.device[slot] = token


def _copy(source: dict[int, Token], destination: dict[int, Token], copies: Iterable[Copy]) -> None:
    read: list[tuple[int, Token]] = []
    for copy in copies:
        assert copy.num_slots > 0
        slots = range(copy.num_slots)
        read += [(copy.destination + i, source.get(copy.source + i)) for i in slots]
    targets = [slot for slot, _ in read]
    assert len(set(targets)) == len(targets), "two copies write one slot"
    destination.update(read)


def group_of(
    order: int, own_len: int, output_len: int, n: int = 1, *, shared_len: int = 0, text: int = 0
) -> SequenceGroup:
    """A group whose prompt is the first `shared_len` tokens of a text, and `own_len` of its own."""
    prefix = (Segment(text, 0, shared_len),) if shared_len else ()
    prompt = Prompt(shared_len + own_len, 1000 + order, prefix=prefix)
    return SequenceGroup(Request(order, 0.0, prompt, SamplingParams(output_len, n)), order)


def text_of(text: int, length: int) -> Prompt:
    """The beginning of a shared text, to be registered."""
    return Prompt(length, prefix=(Segment(text, 0, length),))
