"""`pagedbench check`: the pinned matrix in virtual time against a baseline, for CI."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import INTERRUPTED, NOT_COMPARABLE, REGRESSION
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CHOICES

if TYPE_CHECKING:
    from pagedbench.show.judgement import Judgement
    from pagedbench.tools.check.baseline_file import Baseline
    from pagedbench.tools.check.findings import CheckResult
    from pagedbench.tools.check.footprint import Footprint
    from pagedbench.tools.check.matrix import Case

TITLE = "pagedbench check"

BaselineFile = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        help="The baseline \\[pagedbench-baseline.json here, else the package's].",
        metavar="FILE",
    ),
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
        bool, typer.Option("--wall", help="Also real runs, against those of `baseline calibrate`.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="A folder for check.json, check.md and CI's files.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --output holds.")] = False,
    format: Annotated[
        str, typer.Option(help=f"What stdout shows: {', '.join(CHOICES['format'])}.")
    ] = "rich",
) -> None:
    """Did any decision change? Small runs of all systems in virtual time, compared slot by slot.

    Needs no GPU and no torch, and takes seconds. Exit code 3: something changed; 6: some case cannot be
    compared, because only one side has it; 0: everything is as in the baseline.
    """
    from pagedbench.runs.files import check_folder
    from pagedbench.tools.check.baseline_file import find_baseline, read_baseline

    _refuse_contradictions(format, output, update=update, wall=wall, force=force)
    path = find_baseline(None if baseline is None else baseline.expanduser())
    saved = read_baseline(path)
    cases = chosen_cases(case)
    if output is not None:
        output = output.expanduser()
        check_folder(output, force=force)
    stop = threading.Event()
    with Interrupts(stop.set):
        footprints = run_cases(cases, stop)
        is_whole = len(footprints) == len(cases)
        judgements = _judgements(saved, footprints, is_whole=is_whole)
    real = _wall_judgements(saved, path) if wall and is_whole else None
    num_asked, num_run = len(cases) + wall, len(footprints) + (real is not None)
    result = _result([*judgements, *(real or ())], saved, path, num_asked, num_run)
    with Interrupts(stop.set):  # reports and baseline are written both or neither
        _deliver(result, format, None if update and not is_whole else output, force=force)
        if update and is_whole:
            _update(saved, footprints, result, baseline, is_part=case is not None)
            return
    raise typer.Exit(_exit_code(result))


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


def run_cases(cases: tuple[Case, ...], stop: threading.Event) -> dict[str, Footprint]:
    """The footprints by name, up to the case during which it was stopped."""
    from pagedbench.show.console import shows_live, stderr_console
    from pagedbench.tools.check.case_run import run_case

    console = stderr_console()
    footprints: dict[str, Footprint] = {}
    with console.status("") if shows_live(console) else _Silence() as status:
        for number, case in enumerate(cases, 1):
            if stop.is_set():
                break
            status.update(f"{number} of {len(cases)}: {case.name}")
            footprints[case.name] = run_case(case)
    return footprints


class _Silence:
    """Stands for a status line where nobody looks."""

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, text: str) -> None:
        """Say nothing."""


def _judgements(saved: Baseline, footprints: dict[str, Footprint], *, is_whole: bool) -> list[Judgement]:
    from pagedbench.tools.check.findings import judge_cases
    from pagedbench.tools.check.matrix import CASES

    left_out = {case.name for case in CASES} - set(footprints)
    if not is_whole:  # what is missing was interrupted, not removed
        left_out |= set(saved.cases)
    return judge_cases(saved.cases, footprints, left_out=frozenset(left_out))


def _wall_judgements(saved: Baseline, path: Path) -> list[Judgement] | None:
    """Of real runs; None if they were interrupted."""
    from pagedbench.runs.parallel import new_stop
    from pagedbench.tools.check.wall import judge_wall, not_judged
    from pagedbench.tools.check.wall_run import WALL_METRICS, Starved, machine, measure

    advice = "run pagedbench baseline calibrate on this machine"
    if saved.wall is None or set(saved.wall["runs"]) != set(WALL_METRICS):
        return [not_judged(f"{path} has no figures of real runs: {advice}")]
    here = machine()
    others = [name for name in here if saved.wall["machine"].get(name) != here[name]]
    if others:
        name = others[0]
        was = saved.wall["machine"].get(name)
        return [
            not_judged(
                f"real runs in {path} are of another machine ({name}: {was}, not {here[name]}): {advice}"
            )
        ]
    repeats = min(len(values) for values in saved.wall["runs"].values())
    stop = new_stop()
    try:
        with Interrupts(stop.set):
            runs = measure(repeats, stop, lambda text: print(text, file=sys.stderr))
    except Starved as reason:
        return [not_judged(str(reason).removesuffix("."))]
    if runs is None:
        return None
    return judge_wall({name: saved.wall["runs"][name] for name in runs}, runs)


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
    saved: Baseline,
    footprints: dict[str, Footprint],
    result: CheckResult,
    given: Path | None,
    *,
    is_part: bool,
) -> None:
    """Rewrite the baseline; one that nothing has changed in is left alone."""
    from pagedbench.tools.check.baseline_file import place_of_update, write_baseline

    faulty = [name for name, footprint in footprints.items() if footprint.is_faulty]
    if faulty:
        print(
            f"The baseline stays as it was: {', '.join(faulty)} crashed or leaked memory.", file=sys.stderr
        )
        raise typer.Exit(REGRESSION)
    if result.verdict == "passed":
        print("The baseline stays as it was: nothing has changed.", file=sys.stderr)
        return
    place = place_of_update(None if given is None else given.expanduser())
    cases = {**saved.cases, **footprints} if is_part else footprints
    write_baseline(saved_now(cases, saved.wall), place)
    print(f"Baseline written to {place}", file=sys.stderr)


def saved_now(cases: dict[str, Footprint], wall: dict[str, object] | None) -> Baseline:
    """A baseline of this version, at this time of day."""
    from pagedbench.clock import utc_text
    from pagedbench.tools.check.baseline_file import new_baseline

    return new_baseline(cases, wall, utc_text())


def _exit_code(result: CheckResult) -> int:
    if result.is_interrupted:
        return INTERRUPTED
    return {"regression": REGRESSION, "not comparable": NOT_COMPARABLE}.get(result.verdict, 0)
