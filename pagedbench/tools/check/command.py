"""`pagedbench check`: the pinned matrix of simulated runs against a baseline, for CI."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import REGRESSION
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CHOICES

if TYPE_CHECKING:
    from pagedbench.show.judgement import Judgement
    from pagedbench.tools.check.baseline_file import Baseline
    from pagedbench.tools.check.findings import CheckResult
    from pagedbench.tools.check.footprint import Footprint
    from pagedbench.tools.check.matrix import Case
    from pagedbench.tools.check.wall_server import WallServer

TITLE = "pagedbench check"

BaselineFile = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        help="The baseline \\[pagedbench-baseline.json here, else the package's].",
        metavar="FILE",
    ),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(help="The server that real runs are sent to \\[none: our engine].", metavar="URL"),
]
Model = Annotated[
    str | None,
    typer.Option(help="With --base-url: a folder with the server's vocabulary \\[what it says]."),
]


def check(
    baseline: BaselineFile = None,
    case: Annotated[
        str | None, typer.Option(help="Only these cases, such as 'paged/*,orca-max/n4' \\[all].")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Say what changed, then rewrite the baseline.")
    ] = False,
    wall: Annotated[
        bool, typer.Option("--wall", help="Also time real runs, against those of `baseline calibrate`.")
    ] = False,
    base_url: BaseUrl = None,
    model: Model = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for check.json, check.md and CI's files.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --output holds.")] = False,
    format: Annotated[
        str, typer.Option(help=f"What stdout shows: {', '.join(CHOICES['format'])}.")
    ] = "rich",
) -> None:
    """Did any decision change? Small runs of all systems in virtual time, compared slot by slot.

    It needs neither a GPU nor torch, and takes seconds. Exit code 0: everything is as in the baseline; 3:
    something changed; 6: some case cannot be compared, because only one side has it.
    """
    from pagedbench.runs.files import check_folder
    from pagedbench.tools.check.baseline_file import find_baseline, read_baseline

    _refuse_contradictions(format, output, update=update, wall=wall, force=force)
    if base_url is not None and not wall:
        raise ConfigError("--base-url has no effect without --wall, the real runs")
    server = asked_server(base_url, model)
    path = find_baseline(None if baseline is None else baseline.expanduser())
    saved = read_baseline(path)
    cases = chosen_cases(case)
    if output is not None:
        output = output.expanduser()
        check_folder(output, force=force)
    stop = Event()
    with Interrupts(stop.set):
        footprints = run_cases(cases, stop)
        is_whole = len(footprints) == len(cases)
        judgements = _judgements(saved, footprints, is_whole=is_whole)
    real = _real_judgements(saved, path, server) if wall and is_whole else None
    num_asked, num_run = len(cases) + wall, len(footprints) + (real is not None)
    result = _result([*judgements, *(real or ())], saved, path, num_asked, num_run)
    with Interrupts(stop.set):  # either both reports and baseline are written, or neither
        _deliver(result, format, None if update and not is_whole else output, force=force)
        if update and is_whole:
            cases_now = footprints if case is None else {**saved.cases, **footprints}
            _update(replace(saved, cases=cases_now), footprints, result, baseline)
            return
    raise typer.Exit(result.exit_code)


def _refuse_contradictions(
    format: str, output: Path | None, *, update: bool, wall: bool, force: bool
) -> None:
    if format not in CHOICES["format"]:
        raise ConfigError(f"--format is one of {', '.join(CHOICES['format'])}, not {format!r}")
    if update and wall:
        raise ConfigError("--update rewrites exact cases; real runs are for pagedbench baseline calibrate")
    if force and output is None:
        raise ConfigError("--force has no effect without --output")


def chosen_cases(patterns: str | None) -> tuple[Case, ...]:
    """The cases whose names match one of the patterns, in the order of the matrix.

    Raises:
        ConfigError: a pattern matches none.
    """
    from fnmatch import fnmatchcase

    from pagedbench.tools.check.matrix import CASES

    if patterns is None:
        return CASES
    words = [word.strip() for word in patterns.split(",")]
    for word in words:
        if not any(fnmatchcase(case.name, word) for case in CASES):
            raise ConfigError(f"--case {word!r} matches no case: pagedbench baseline show lists them")
    return tuple(case for case in CASES if any(fnmatchcase(case.name, word) for word in words))


def run_cases(cases: tuple[Case, ...], stop: Event) -> dict[str, Footprint]:
    """The footprints by name, up to the case during which `stop` was set."""
    from pagedbench.show.console import shows_live, stderr_console
    from pagedbench.tools.check.case_run import run_case

    console = stderr_console()
    line = console.status("") if shows_live(console) else None
    footprints: dict[str, Footprint] = {}
    with line or nullcontext():
        for number, case in enumerate(cases, 1):
            if stop.is_set():
                break
            if line is not None:
                line.update(f"{number} of {len(cases)}: {case.name}")
            footprints[case.name] = run_case(case)
    return footprints


def faulty_names(footprints: dict[str, Footprint]) -> str:
    """The cases that crashed or leaked, for a sentence; empty without any."""
    return ", ".join(name for name, footprint in footprints.items() if footprint.is_faulty)


def _judgements(saved: Baseline, footprints: dict[str, Footprint], *, is_whole: bool) -> list[Judgement]:
    from pagedbench.tools.check.findings import judge_cases
    from pagedbench.tools.check.matrix import CASES

    left_out = {case.name for case in CASES} - set(footprints)
    if not is_whole:  # missing cases were interrupted, not removed from the matrix
        left_out |= set(saved.cases)
    return judge_cases(saved.cases, footprints, left_out=frozenset(left_out))


def asked_server(base_url: str | None, model: str | None) -> WallServer | None:
    """The server of `--base-url`; None if there is none.

    Raises:
        ConfigError: it cannot be used, or --model is given without it.
    """
    if base_url is None:
        if model is not None:
            raise ConfigError("--model has no effect without --base-url, the server")
        return None
    from pagedbench.tools.check.wall_server import find_wall_server

    return find_wall_server(base_url, model)


def measured(server: WallServer | None, repeats: int, stop: Event) -> dict[str, list[float]] | None:
    """Real runs: metric -> values. None if they were stopped. Raises as what measures them."""
    if server is None:
        from pagedbench.tools.check import wall_run

        return wall_run.measure(repeats, stop)
    from pagedbench.tools.check.wall_server import measure_server

    return measure_server(server, repeats, stop)


def _real_judgements(saved: Baseline, path: Path, server: WallServer | None) -> list[Judgement] | None:
    """Judgements of real runs; None if they were interrupted."""
    from pagedbench.tools.check.wall import judge_wall, not_judged
    from pagedbench.tools.check.wall_run import Starved, obstacle_to

    obstacle = obstacle_to(saved.wall, path, None if server is None else server.facts)
    if obstacle is not None:
        return [not_judged(obstacle)]
    assert saved.wall is not None
    before, stop = saved.wall["runs"], Event()
    try:
        with Interrupts(stop.set):
            runs = measured(server, min(map(len, before.values())), stop)
    except Starved as reason:
        return [not_judged(str(reason).removesuffix("."))]
    return None if runs is None else judge_wall({name: before[name] for name in runs}, runs)


def _result(
    judgements: list[Judgement], saved: Baseline, path: Path, num_asked: int, num_run: int
) -> CheckResult:
    from pagedbench.tools.check.baseline_file import PACKAGED
    from pagedbench.tools.check.baseline_report import origin
    from pagedbench.tools.check.findings import CheckResult

    name = "the package's own" if path == PACKAGED else str(path)
    words = origin(saved.version, saved.commit, saved.saved)
    return CheckResult(tuple(judgements), name, words, num_asked, num_run)


def _deliver(result: CheckResult, format: str, output: Path | None, *, force: bool) -> None:
    from pagedbench.runs.files import write_files
    from pagedbench.show.ci import announce, ci_texts
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.check.report import check_document, print_check

    if format == "rich":
        print_check(stdout_console(COMPARE_WIDTH), result)
    else:
        sys.stdout.write(check_document(result, format))
    if output is not None:
        texts = {f"check.{kind}": check_document(result, kind) for kind in ("json", "md")}
        folder = write_files(texts | ci_texts(result.judgements, TITLE), output, force=force)
        print(f"Saved to {folder}", file=sys.stderr)
    announce(result.judgements, TITLE, check_document(result, "md"))


def _update(
    updated: Baseline, footprints: dict[str, Footprint], result: CheckResult, baseline: Path | None
) -> None:
    """Rewrite the baseline, if something has changed."""
    from pagedbench.tools.check.baseline_file import new_baseline, place_of_update, write_baseline
    from pagedbench.tools.check.findings import CheckVerdict

    faulty = faulty_names(footprints)
    if faulty:
        print(f"The baseline stays as it was: {faulty} crashed or leaked memory.", file=sys.stderr)
        raise typer.Exit(REGRESSION)
    if result.verdict is CheckVerdict.PASSED:
        print("The baseline stays as it was: nothing has changed.", file=sys.stderr)
        return
    place = place_of_update(None if baseline is None else baseline.expanduser())
    write_baseline(new_baseline(updated.cases, updated.wall), place)
    print(f"Baseline written to {place}", file=sys.stderr)
