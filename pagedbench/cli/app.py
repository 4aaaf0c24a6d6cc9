"""The command line: commands are loaded when they are called, every outcome becomes an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from pagedbench import __version__
from pagedbench.cli.commands import COMMANDS, examples_of, group_examples
from pagedbench.config import InputError
from pagedbench.runs.exit_codes import BAD_INPUT, CRASHED, INTERRUPTED
from pagedbench.runs.options import UsageError, sentence_of, with_switch_values

if TYPE_CHECKING:
    from typer.core import TyperGroup


app = typer.Typer(
    name="pagedbench",
    help="What KV-cache memory management buys: paged attention against Orca and FasterTransformer.",
    add_completion=False,
    epilog=group_examples(),
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LazyCommand(TyperCommand):
    """What `pagedbench --help` shows of a command. The command itself is loaded when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None
        return load(self.name).make_context(info_name, args, parent=parent, **extra)


def commands() -> TyperGroup:
    """`pagedbench` with every command of the table; no command's module is imported yet."""
    group = typer.main.get_group(app)
    for name, entry in COMMANDS.items():
        group.add_command(LazyCommand(name, help=entry.summary, rich_help_panel=entry.group))
    return group


def load(name: str) -> Any:
    """The click command of a module, imported now, with the table's summary and examples."""
    module, summary = importlib.import_module(COMMANDS[name].module), COMMANDS[name].summary
    if hasattr(module, "app"):
        command: Any = typer.main.get_group(module.app)
    else:
        single = typer.Typer(add_completion=False)
        single.command(name)(getattr(module, name))
        command = typer.main.get_command(single)
    _, *details = (command.help or "").split("\n\n")  # the docstring begins with another summary
    command.name, command.epilog, command.help = name, examples_of(name), "\n\n".join([summary, *details])
    return command


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
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _be_other_rank()
    code = _invoke(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        from pagedbench.show.console import silence_stdout

        silence_stdout()
    sys.exit(code)


def _be_other_rank() -> None:
    """Compute as another rank if torchrun started this process as one: only the first runs commands."""
    from pagedbench.execution.parallel.layout import is_other_rank

    if is_other_rank():
        from pagedbench.execution.parallel.worker import compute_for_torchrun

        compute_for_torchrun()


def _open_streams() -> None:
    """Replace streams that the shell has closed (`>&-`), which Python sets to None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _invoke(arguments: list[str]) -> int:
    words = with_switch_values(arguments)
    try:
        return commands().main(args=words, prog_name="pagedbench", standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (UsageError, InputError) as error:
        return _fail(error, BAD_INPUT)
    except Exception as error:
        return _fail(error, CRASHED, _crash_message(error))


def _crash_message(error: Exception) -> str | None:
    """What to print instead of the error's own message; None if that was written for the user."""
    from pagedbench.metrics.crash import crash_text
    from pagedbench.runs.files import ReportError

    if isinstance(error, ReportError):
        return None
    return f"crashed with {crash_text(error)}; PAGEDBENCH_DEBUG=1 shows all of it"


def _fail(error: Exception, code: int, message: str | None = None) -> int:
    """Print one line about the error. Returns the exit code."""
    if os.environ.get("PAGEDBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    text = sentence_of(error) if message is None else " ".join(message.split())
    print(f"Error: {text}", file=sys.stderr)
    return code
