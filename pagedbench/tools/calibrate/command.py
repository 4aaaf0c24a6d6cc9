"""`pagedbench calibrate`: fit the cost model to this machine, and print how far it is off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError, RunConfig, flag
from pagedbench.remote.options import ApiOption, ServedModel, Timeout, server_options
from pagedbench.runs.names import check_backend

if TYPE_CHECKING:
    from collections.abc import Collection

    from pagedbench.plan import Plan
    from pagedbench.remote.options import ServerOptions
    from pagedbench.tools.calibrate.report import Calibration


SERVER = "Server"
OF_SERVERS = ("duration", "api", "served_model", "timeout", "prefill", "max_num_seqs",
              "max_num_batched_tokens", "max_model_len")  # fmt: skip
OF_THIS_MACHINE = ("device", "kernels", "rounds", "replay")
"""Options without effect on a server."""

OPERATOR_TIMES_ALONE = "has no effect with --operator-times: nothing is measured"
SIMULATED = "sim:twin.json"
"""The device of simulated runs that stand for a server while it is measured; no such file is read."""


def calibrate(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="Built-in shape, local folder, or hub id.")] = "opt-125m",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    kernels: Annotated[str, typer.Option(help="auto, native, triton, reference.")] = "auto",
    kv_slots: Annotated[int | None, typer.Option(help="KV pool in tokens \\[15696].")] = None,
    block_size: Annotated[int, typer.Option(help="Tokens per block.")] = 16,
    rounds: Annotated[int, typer.Option(help="Each times every batch once.", min=1)] = 3,
    replay: Annotated[
        int, typer.Option(help="Requests of the run that is replayed at three loads; 0: no run.", min=0)
    ] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the replayed run.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="The profile's file \\[calibration_MODEL_DTYPE.json].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    base_url: Annotated[
        str | None,
        typer.Option(
            help="Measure this server instead, from outside, such as http://localhost:8000.",
            metavar="URL",
            rich_help_panel=SERVER,
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option(help="Seconds of the measurement, about.", rich_help_panel=SERVER)
    ] = 150.0,
    api: ApiOption = None,
    served_model: ServedModel = None,
    timeout: Timeout = None,
    prefill: Annotated[
        str, typer.Option(help="How it runs prompts: as in `run`.", rich_help_panel=SERVER)
    ] = "mixed",
    max_num_seqs: Annotated[
        int, typer.Option(help="Sequences in one of its iterations.", rich_help_panel=SERVER)
    ] = 256,
    max_num_batched_tokens: Annotated[
        int, typer.Option(help="Its token budget per iteration.", rich_help_panel=SERVER)
    ] = 2560,
    max_model_len: Annotated[
        int | None,
        typer.Option(help="Longest prompt + output \\[2048, or the server's].", rich_help_panel=SERVER),
    ] = None,
    operator_times: Annotated[
        Path | None,
        typer.Option(
            help="Measure nothing; fit the simulated cards to a folder of operator times: Vidur's, or "
            "aiconfigurator's of vLLM 0.14."
        ),
    ] = None,
) -> None:
    """Time batches on this machine, fit the cost model to them, and save it for `--device sim:FILE`.

    Prints the error of the fit on held-out batches, and of simulated runs against real ones.
    """
    if base_url is None:
        _refuse(context, OF_SERVERS, "needs --base-url: it is about a server")
    if operator_times is not None:
        _refuse(context, set(context.params) - {"operator_times"}, OPERATOR_TIMES_ALONE)
        _fit_operator_times(operator_times.expanduser())
        return
    if base_url is not None:
        _refuse(context, OF_THIS_MACHINE, "has no effect with --base-url: the server is measured")
        told = RunConfig(
            model=model,
            dtype="float16" if dtype == "auto" else dtype,
            device=SIMULATED,
            kv_slots=kv_slots,
            block_size=block_size,
            prefill=prefill,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            seed=seed,
        )
        options = server_options(
            None, base_url=base_url, api=api, served_model=served_model, timeout=timeout
        )
        _calibrate_server(
            options, told, duration, output, force=force, is_model_given=_is_given(context, "model")
        )
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


def _calibrate_server(
    options: ServerOptions,
    config: RunConfig,
    duration: float,
    output: Path | None,
    *,
    force: bool,
    is_model_given: bool,
) -> None:
    from pagedbench.show.console import stdout_console
    from pagedbench.show.stages import Stages
    from pagedbench.tools.calibrate.report import check_place
    from pagedbench.tools.calibrate.twin.report import print_twin, save_twin
    from pagedbench.tools.calibrate.twin.server import check_duration, measure_server

    check_duration(duration)
    place = (output or Path("twin.json")).expanduser()
    check_place(place, force=force)
    with Stages("asking the server what it is") as stages:
        measured = measure_server(options, config, duration, stages.tell, is_model_given=is_model_given)
    save_twin(measured, place)
    print_twin(stdout_console(), measured, place)


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
