"""Copies between the device's pool and the host's."""

from __future__ import annotations

from pagedbench.execution.input_builder import runs_of
from pagedbench.execution.step_inputs import MoveInputs
from pagedbench.memory.moves import Copy, Pool


def out(*slots):
    """A copy from the device to the host: source, destination, number of slots."""
    return Copy(*slots, Pool.DEVICE, Pool.HOST)


def back(*slots):
    """A copy from the host to the device."""
    return Copy(*slots, Pool.HOST, Pool.DEVICE)


def moves_of(*copies):
    """All copies at once, as a pool executes them."""
    (pools,) = {(copy.source_pool, copy.destination_pool) for copy in copies}
    return MoveInputs(*pools, runs_of(copies))
