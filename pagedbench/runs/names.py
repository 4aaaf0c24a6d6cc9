"""Checks of names in options before anything heavy is imported, so that typing errors show at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import is_simulated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.config import RunConfig


def check_names(configs: Iterable[RunConfig]) -> None:
    """Check that the devices, models, traces and tokenizers can exist; `run_configs` checks systems.

    Raises:
        InputError: one cannot exist.
    """
    from pagedbench.workload import dataset, tokenizer

    for config in configs:
        check_backend(config.device, config.model)
        dataset.check_name(config.trace)
        if config.tokenizer is not None:
            tokenizer.check_name(config.tokenizer)


def check_backend(device: str, model: str) -> None:
    """Check that the device and the model can exist. A measured profile names its own model.

    Raises:
        InputError: one cannot exist.
    """
    from pagedbench.simulation.cards import CARDS, check_device
    from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, local_folder, shape_for_simulation

    check_device(device)
    if device.removeprefix("sim:") in CARDS:
        shape_for_simulation(model)
    elif not is_simulated(device) and model not in BUILT_IN_SHAPES:
        local_folder(model)
