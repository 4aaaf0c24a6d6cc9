"""Names and files that were given, looked at before anything heavy is imported: a slip costs no wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import is_simulated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.config import RunConfig
    from pagedbench.runs.options import Given


def check_names(configs: Iterable[RunConfig], given: Given) -> None:
    """The place of the results, and what runs name: devices, models, traces, tokenizers.

    Systems, and classes of the user's own, were looked at when the runs were listed.

    Raises:
        ConfigError, TraceError, ModelError: something cannot be there.
    """
    from pagedbench.runs.files import check_default_place, check_folder
    from pagedbench.workload import dataset, tokenizer

    if given.output is not None:
        check_folder(given.output, force=given.force)
    elif not given.dry_run:
        check_default_place()
    for config in configs:
        check_backend(config.device, config.model)
        dataset.check_name(config.trace)
        if config.tokenizer is not None:
            tokenizer.check_name(config.tokenizer)


def check_backend(device: str, model: str) -> None:
    """Can there be such a device, and such a model? A measured profile says itself which model it is of.

    Raises:
        ConfigError, ModelError: there cannot.
    """
    from pagedbench.simulation.cards import CARDS, check_device
    from pagedbench.simulation.config_shapes import local_folder, shape_for_simulation
    from pagedbench.simulation.shapes import BUILT_IN_SHAPES

    check_device(device)
    if device.removeprefix("sim:") in CARDS:
        shape_for_simulation(model)
    elif not is_simulated(device) and model not in BUILT_IN_SHAPES:
        local_folder(model)
