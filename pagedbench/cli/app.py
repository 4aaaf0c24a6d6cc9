"""Joins the commands, and turns every outcome into an exit code and at most one sentence."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from pagedbench import __version__
from pagedbench.cli.doctor import doctor
from pagedbench.cli.examples import examples_of, group_examples, group_of
from pagedbench.cli.plot import plot
from pagedbench.cli.report import report
from pagedbench.cli.run import run
from pagedbench.cli.systems import systems
from pagedbench.cli.trace import app as trace_app
from pagedbench.runs.exit_codes import BAD_INPUT, CRASHED, INTERRUPTED
from pagedbench.runs.options import with_switch_values
from pagedbench.tools.calibrate.command import calibrate
from pagedbench.tools.capacity.command import capacity
from pagedbench.tools.check.baseline_command import app as baseline_app
from pagedbench.tools.check.command import check
from pagedbench.tools.compare.command import compare
from pagedbench.tools.explain.command import explain
from pagedbench.tools.kernels.command import kernels
from pagedbench.tools.paper.command import reproduce
from pagedbench.tools.sweep.command import sweep

INPUT_ERRORS = {"ConfigError", "TraceError", "ModelError"}
"""By name, because importing the modules that define them would load numpy and torch."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser of the command line raises; typer brings it along, but has no public name for it."""

app = typer.Typer(
    name="pagedbench",
    help="What KV-cache memory management buys: paged attention against Orca and FasterTransformer.",
    add_completion=False,
    rich_markup_mode="rich",
    epilog=group_examples(),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (run, compare, sweep, capacity, check, explain, plot, report, reproduce, kernels, calibrate,
            systems, doctor)  # fmt: skip

for command in COMMANDS:
    name = command.__name__
    app.command(name, rich_help_panel=group_of(name), epilog=examples_of(name))(command)
for name, group in (("baseline", baseline_app), ("trace", trace_app)):
    app.add_typer(group, name=name, rich_help_panel=group_of(name), epilog=examples_of(name))


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"pagedbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and stop."
    ),
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """The `pagedbench` command.

    Raises:
        SystemExit: always, with the exit code.
    """
    _open_streams()
    code = _invoke(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from pagedbench.show.console import silence_stdout

        silence_stdout()
    sys.exit(code)


def _open_streams() -> None:
    """A shell may close a stream (`>&-`), and Python then has none."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _invoke(arguments: list[str] | None) -> int:
    words = with_switch_values(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        return command.main(args=words, prog_name="pagedbench", standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except UsageError as error:
        return _fail(error, BAD_INPUT)
    except Exception as error:
        names = {ancestor.__name__ for ancestor in type(error).__mro__}
        if names & INPUT_ERRORS:
            return _fail(error, BAD_INPUT)
        return _fail(error, CRASHED, is_crash="ReportError" not in names)


def _fail(error: Exception, code: int, *, is_crash: bool = False) -> int:
    """Say what is wrong in one line."""
    if os.environ.get("PAGEDBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    describe = getattr(error, "format_message", error.__str__)
    message = " ".join(describe().split())
    if is_crash:
        from pagedbench.metrics.crash import crash_text

        message = f"crashed with {crash_text(error)}; PAGEDBENCH_DEBUG=1 shows all of it"
    print(f"Error: {message}", file=sys.stderr)
    return code
