"""The backends that every operation is tested with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.ops.select import select_ops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.ops.select import Ops


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and lose much where other tests run beside them."""
    import torch

    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def native() -> Ops:
    try:
        return select_ops("cpu", "native")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["reference", "native"])
def ops(request: pytest.FixtureRequest) -> Ops:
    return (
        request.getfixturevalue("native") if request.param == "native" else select_ops("cpu", "reference")
    )
