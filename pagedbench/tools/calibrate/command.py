"""`pagedbench calibrate`: fit the cost model to this machine or a server, and print its errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError, RunConfig, flag
from pagedbench.runs.names import check_backend
from pagedbench.tools.calibrate.twin.options import (
    OF_SERVERS,
    ApiOption,
    BaseUrl,
    Duration,
    MaxModelLen,
    MaxNumBatchedTokens,
    MaxNumSeqs,
    PrefillOption,
    PrefixCaching,
    ServedModel,
    Timeout,
    calibrate_server,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from pagedbench.plan import Plan
    from pagedbench.tools.calibrate.report import Calibration


OF_THIS_MACHINE = ("device", "kernels", "rounds", "replay")
"""Options without effect on a server."""

OPERATOR_TIMES_ALONE = "has no effect with --operator-times: nothing is measured"

OperatorTimes = Annotated[
    Path | None,
    typer.Option(
        help="Measure nothing; fit the simulated cards to a folder of operator times: Vidur's, or those "
        "of aiconfigurator for vLLM 0.14."
    ),
]


def calibrate(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Built-in shape, local folder, or hub id.")] = "opt-125m",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    kernels: Annotated[str, typer.Option(help="auto, native, triton, reference.")] = "auto",
    kv_slots: Annotated[int | None, typer.Option(help="KV pool in tokens \\[15696].")] = None,
    block_size: Annotated[int, typer.Option(help="Tokens per block.")] = 16,
    rounds: Annotated[int, typer.Option(help="Number of rounds; each times every batch once.", min=1)] = 3,
    replay: Annotated[
        int, typer.Option(help="Requests of the run that is replayed at three loads; 0: no run.", min=0)
    ] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the replayed run.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="The profile's file \\[calibration_MODEL_DTYPE.json].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    operator_times: OperatorTimes = None,
    base_url: BaseUrl = None,
    duration: Duration = 150.0,
    api: ApiOption = None,
    served_model: ServedModel = None,
    timeout: Timeout = None,
    prefill: PrefillOption = "mixed",
    max_num_seqs: MaxNumSeqs = 256,
    max_num_batched_tokens: MaxNumBatchedTokens = 2560,
    max_model_len: MaxModelLen = None,
    prefix_caching: PrefixCaching = False,
) -> None:
    """Fit the cost model to this machine or to a server, and save it for `--device sim:FILE`.

    Batches are timed on this machine; or (--base-url) loads are sent to a server, whose token times show
    its iterations. Prints how far the predictions are from the measurements.
    """
    if base_url is None:
        _refuse(context, OF_SERVERS, "needs --base-url: it is about a server")
    if operator_times is not None:
        _refuse(context, set(context.params) - {"operator_times"}, OPERATOR_TIMES_ALONE)
        _fit_operator_times(operator_times.expanduser())
        return
    if base_url is not None:
        _refuse(context, OF_THIS_MACHINE, "has no effect with --base-url: the server is measured")
        calibrate_server(context.params, is_model_given=_is_given(context, "model"))
        return
    config = RunConfig(
        model=model,
        dtype=dtype,
        device=device,
        kernels=kernels,
        kv_slots=kv_slots,
        block_size=block_size,
        seed=seed,
    )
    if config.is_simulated:
        raise ConfigError("calibrate measures a real device: take --device cpu or --device cuda")
    check_backend(device, model)
    _calibrate(config, rounds, replay, output, force=force)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    for name in context.params:
        if name in names and _is_given(context, name):
            raise ConfigError(f"{flag(name)} {why}")


def _calibrate(
    config: RunConfig, rounds: int, num_requests: int, output: Path | None, *, force: bool
) -> None:
    from pagedbench.plan import make_plan
    from pagedbench.show.console import stdout_console
    from pagedbench.tools.calibrate.report import check_place, print_calibration, save_profile

    if output is not None:
        check_place(output.expanduser(), force=force)
    plan = make_plan(config)
    place = output or Path(f"calibration_{plan.shape.name}_{plan.config.dtype}.json")
    place = place.expanduser()
    check_place(place, force=force)
    calibration = _measure(plan, rounds, num_requests)
    save_profile(calibration, place)
    print_calibration(stdout_console(), calibration, place)


def _measure(plan: Plan, rounds: int, num_requests: int) -> Calibration:
    from pagedbench.backend import ModelBackend, load_backend
    from pagedbench.runs.memory_bandwidth import read_bandwidth
    from pagedbench.show.stages import Stages
    from pagedbench.simulation.profile import Profile
    from pagedbench.tools.calibrate.block_size_times import measure_block_sizes
    from pagedbench.tools.calibrate.calibration import fit_costs, fit_errors, with_loop
    from pagedbench.tools.calibrate.machine_profile import measure
    from pagedbench.tools.calibrate.replay import replays
    from pagedbench.tools.calibrate.report import Calibration

    backend = load_backend(plan)
    assert isinstance(backend, ModelBackend), "the device is real"
    with Stages("warming up") as stages:
        backend.warm_up(plan)
        before = read_bandwidth(plan.config.device)
        measured = measure(plan, backend, rounds, stages.tell)
        after = read_bandwidth(plan.config.device)
        fitted = fit_costs(measured.fitted)
        stages.tell("kernels over the block size")
        profile = Profile(
            model=plan.config.model,
            shape=plan.shape,
            dtype=plan.config.dtype,
            kernels=plan.kernels,
            device_name=plan.device_name,
            fitted=with_loop(fitted, measured.loop),
            block_size=plan.config.block_size,
            attention=measure_block_sizes(plan, backend),
        )
        return Calibration(
            profile=profile,
            rounds=rounds,
            spread=measured.spread,
            bandwidths=(before, after),
            fit=fit_errors(fitted, measured.fitted),
            held_out=fit_errors(fitted, measured.held_out),
            replays=tuple(replays(plan, backend, profile, num_requests, stages.tell)),
        )


def _fit_operator_times(folder: Path) -> None:
    from pagedbench.show.console import stdout_console
    from pagedbench.tools.calibrate.decode_steps import decode_step_errors
    from pagedbench.tools.calibrate.kernel_fit import FOLDERS, fit_kernels
    from pagedbench.tools.calibrate.operator_fit import (
        MODELS,
        fit_matrices,
        fit_passes,
        held_out_errors,
        read_measured,
    )
    from pagedbench.tools.calibrate.report import print_kernel_fit, print_operator_fit

    if any((folder / name).is_dir() for name in FOLDERS.values()):
        print_kernel_fit(stdout_console(), fit_kernels(folder), decode_step_errors(folder))
        return
    data = read_measured(folder)
    by_model = {model: fit_matrices(data[data["model"] == model]) for model in MODELS}
    fits = {"all models": fit_matrices(data), **by_model}
    print_operator_fit(stdout_console(), fits, fit_passes(data), held_out_errors(data))
