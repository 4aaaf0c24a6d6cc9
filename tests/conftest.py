"""Fixtures that every test may use; and every run draws the same numbers."""

from __future__ import annotations

import gc
import os
import random
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ranks import Cluster

# With several threads, tests of tiny tensors wait for threads that wait for a core; tests of threads ask
# for some.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests start many processes: each would compile the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Garbage cycles are looked for less often, as in a run: thousands of tests are kept in memory.
gc.set_threshold(50_000, 20, 20)

# No deadline: what an example takes depends on what else the machine does.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("PAGEDBENCH_FUZZ") else "fixed")
if settings.default.derandomize and hasattr(providers, "_get_local_constants"):
    # Examples also take numbers from the modules of the package that other tests have loaded so far.
    providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same numbers, whatever ran before in this process."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _bundled_once() -> Iterator[None]:
    """Bundled traces do not change, and almost every run reads one: half a second each time."""
    from pagedbench.workload import dataset

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_bundled", "_bundled_traffic"):
            patch.setattr(dataset, name, cache(getattr(dataset, name)))
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real lengths, tokenizers and a small trained model, which the project does not ship."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PAGEDBENCH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("no test data: set PAGEDBENCH_TEST_DATA to a folder that holds it")
    return folder


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random models."""
    from models.folders import make_llama_folder, make_opt_folder

    root = tmp_path_factory.mktemp("models")
    return {"opt": make_opt_folder(root / "opt"), "llama": make_llama_folder(root / "llama")}


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """A model by name, to be given as the parameter: "opt", "llama" (random), or "stories" (trained)."""
    if request.param == "stories":
        data: Path = request.getfixturevalue("test_data")
        return data / "models" / "stories260K" / "hf"
    path: Path = request.getfixturevalue("model_folders")[request.param]
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny models: a second thread only waits for the first."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def _clusters() -> Iterator[Callable[[int], Cluster]]:
    from ranks import Cluster

    started: dict[int, Cluster] = {}

    def of(num_ranks: int) -> Cluster:
        if num_ranks not in started:
            started[num_ranks] = Cluster(num_ranks)
        return started[num_ranks]

    yield of
    for cluster in started.values():
        cluster.ranks.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, _clusters: Callable[[int], Cluster]) -> Cluster:
    """Ranks on this machine, as many as the parameter says. Their processes start once."""
    return _clusters(request.param)
