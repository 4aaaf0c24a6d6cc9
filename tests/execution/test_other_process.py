"""A model in another process needs nothing but pickled `StepInputs`, and says the same."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor, ModelRunner
from pagedbench.memory.moves import Pool
from pagedbench.models.loader import load_model
from pagedbench.ops.select import select_ops
from pagedbench.request import SamplingParams
from pagedbench.workload.arrivals import FixedArrivals
from serving import BEAMS, GREEDY, ROOMY, engine_of, loaded_model, memory_of, requests_of, serve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

PARALLEL = SamplingParams(1, n=2, temperature=0.9, top_k=20, seed=4)


class ArraysOnly(pickle.Unpickler):
    """Reads arrays and the names of pools: a request, a sequence or a manager is an error."""

    def find_class(self, module, name):
        if (module, name) == ("builtins", "getattr"):  # Python up to 3.11.3 pickles members of enums so
            return member_of_pool
        is_array = module.startswith("numpy") or module == "pagedbench.execution.step_inputs"
        assert is_array or name == "Pool", f"{module}.{name} is alive"
        return super().find_class(module, name)


def member_of_pool(kind, name):
    """What `getattr` may be called for."""
    assert kind is Pool, f"an attribute of {kind} is alive"
    return Pool[name]


def compute(folder, connection):
    """Another process: computes what it receives, on a pool that holds NaN until it is written."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    loaded = load_model(folder, dtype=torch.float32)
    cache = KVCache(loaded.shape, ROOMY, torch.float32, "cpu")
    cache.reserve_host(ROOMY)
    for tensor in cache.tensors:
        tensor.fill_(float("nan"))
    runner = ModelRunner(loaded.model, cache, select_ops("cpu"), save_logprobs=True)
    while received := connection.recv_bytes():
        inputs = ArraysOnly(io.BytesIO(received)).load()
        connection.send_bytes(pickle.dumps(runner.run(inputs)))


class Remote:
    """Sends every iteration to another process."""

    def __init__(self, connection):
        self._connection = connection
        self.num_steps = 0

    def run(self, inputs):
        self.num_steps += 1
        self._connection.send_bytes(pickle.dumps(inputs))
        return pickle.loads(self._connection.recv_bytes())


@pytest.fixture(scope="module")
def connection(model_folders: dict[str, Path]):
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=compute, args=(str(model_folders["llama"]), there))
    process.start()
    there.close()
    yield here
    here.send_bytes(b"")
    process.join(timeout=60)
    assert process.exitcode == 0


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("system", "kv_slots", "samplings", "columns"),
    [
        ("paged", ROOMY, [PARALLEL, BEAMS, GREEDY], ["cow_copies"]),
        ("paged", 160, [PARALLEL, GREEDY], ["preemptions_swap", "cow_copies"]),
        ("orca-max", ROOMY, [GREEDY, BEAMS], []),
        ("fastertransformer", ROOMY, [GREEDY], []),
    ],
    ids=["copy on write", "swapping", "contiguous", "padded"],
)
def test_the_same_tokens(folder, connection, system, kv_slots, samplings, columns) -> None:
    requests, preemption = requests_of(folder, *samplings), "swap" if kv_slots < ROOMY else "auto"
    expected = serve(folder, requests, system, kv_slots, preemption)
    memory, remote = memory_of(system, kv_slots), Remote(connection)
    builder = InputBuilder(memory, loaded_model(folder).shape.vocab_size)
    engine = engine_of(system, memory, ModelExecutor(builder, remote), preemption)
    record = engine.run(FixedArrivals(requests))
    for item, other in zip(record.requests, expected.requests, strict=True):
        assert item.outputs == other.outputs  # tokens and log-probabilities
    assert remote.num_steps == len(record.steps)
    for column in columns:
        assert record.steps[column].sum() > 0, column
