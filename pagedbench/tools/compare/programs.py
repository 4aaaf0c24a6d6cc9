"""Programs: another pagedbench and this one, as child processes with the same resolved options."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pagedbench.config import FIELDS, ConfigError, flag
from pagedbench.runs.configs import requested
from pagedbench.runs.exit_codes import BAD_INPUT, CRASHED, INTERRUPTED
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.remains import scratch_folder
from pagedbench.runs.toml import config_toml

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Sequence as Items

    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions

WIDE = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
"""Environment of a terminal on which a help page shows every option in full."""

POLL_TIME = 0.5
"""Seconds between two looks for an interrupt."""

GRACE_TIME = 5.0
"""Seconds that a child is given to end after the second interrupt."""


def own_command() -> list[str]:
    """The command that started this program (a script, a module, or a wrapper), without its arguments."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["compare"] and sys.orig_argv[-len(arguments) :] == arguments:
        return [sys.executable, *sys.orig_argv[1 : -len(arguments)]]
    return [sys.executable, "-m", "pagedbench"]


def parse_command(text: str) -> list[str]:
    """The words of `--reference`, as a shell would split them.

    Raises:
        ConfigError: there are none, or a quotation is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--reference cannot be read as a command: {error}") from None
    if not words:
        raise ConfigError("--reference names no command: write it like --reference /path/to/pagedbench")
    return [str(Path(words[0]).expanduser()) if words[0].startswith("~") else words[0], *words[1:]]


def options_of(command: Items[str]) -> set[str]:
    """The options of a program's `run`, by its help page.

    Raises:
        ConfigError: the program is missing, cannot be started, or is not a pagedbench.
    """
    name = shlex.join(command)
    try:
        answer = subprocess.run(
            [*command, "run", "--help"],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **WIDE},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise ConfigError(f"--reference: there is no program {command[0]}") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(f"--reference: {command[0]} cannot be started: {reason}") from None
    options = set(re.findall(r"--[a-z][a-z-]*", answer.stdout))
    if answer.returncode != 0 or not {"--config", "--output", "--system"} <= options:
        raise ConfigError(f"--reference is not a pagedbench: `{name} run --help` shows no options of a run")
    return options


def known_program(command: str, options: CommandOptions) -> tuple[list[str], set[str]]:
    """The words of `--reference`, and the fields of RunConfig that it has options for.

    Raises:
        ConfigError: it cannot be started, is not a pagedbench, or lacks an option that was asked for.
    """
    words = parse_command(command)
    flags = options_of(words)
    known = {name for name in FIELDS if flag(name) in flags}
    for name, values in requested(options).items():
        if name not in known and values != (FIELDS[name].default,):
            raise ConfigError(f"--reference does not know {flag(name)}: it cannot be compared with it")
    return words, known


class Program:
    """A program as a side: child processes make its runs.

    Args:
        known: fields of RunConfig that it has options for; the others are left out, as they have defaults.
    """

    def __init__(
        self,
        label: str,
        command: Items[str],
        jobs: Items[Job],
        options: CommandOptions,
        known: Collection[str] = tuple(FIELDS),
    ) -> None:
        self.label = label
        self._command = list(command)
        self._jobs = jobs
        self._options = options
        self._known = known

    def run(self, workload: int, folder: Path, title: str) -> None:
        """See `Arm.run`."""
        with scratch_folder() as place:
            config = place / "config.toml"
            config.write_text(self._toml(workload), encoding="utf-8")
            command = [*self._command, "run", "--config", str(config), "--output", str(folder)]
            command += ["--format", "csv", "--progress", "none"]
            command += ["--force"] if self._options.force and folder.exists() else []
            command += ["--save-outputs"] if self._options.save_outputs else []
            command += ["--save-events"] if self._options.save_events else []
            code, message = _run_child(command)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code == BAD_INPUT:
            raise ConfigError(f"the {self.label} refused these options: {message}")
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            print(f"Error: {title}: it {how}: {message}", file=sys.stderr)
            raise typer.Exit(CRASHED)

    def _toml(self, workload: int) -> str:
        """The resolved options as TOML, without those that the program does not know."""
        lines = config_toml(self._jobs[workload].plan.config).splitlines(keepends=True)
        return "".join(line for line in lines if line.partition(" = ")[0] in self._known)


def _run_child(command: Items[str]) -> tuple[int, str]:
    """Run a child in its own process group. Returns its exit code and the last line that it printed.

    The first interrupt is passed on, so that the child saves what it has; the second ends it.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return CRASHED, f"it cannot be started: {(error.strerror or str(error)).lower()}"

    def stop(number: int = signal.SIGINT) -> None:
        if process.poll() is None:
            os.killpg(process.pid, number)

    with Interrupts(stop) as interrupts:
        try:
            errors = _errors_of(process)
        except KeyboardInterrupt:
            stop()
            try:
                process.communicate(timeout=GRACE_TIME)
            except subprocess.TimeoutExpired:
                stop(signal.SIGKILL)
                process.communicate()
            raise
    code = INTERRUPTED if interrupts.received else process.returncode
    return code, _last_line(errors)


def _errors_of(process: subprocess.Popen[str]) -> str:
    """Its stderr, up to its end. The parent wakes up from time to time to handle signals."""
    while True:
        try:
            return process.communicate(timeout=POLL_TIME)[1]
        except subprocess.TimeoutExpired:
            continue


def _last_line(text: str) -> str:
    """The last error, or else the last line, without the word that introduces errors."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("Error: ")]
    last = (errors or lines or ["it printed nothing"])[-1]
    return last.removeprefix("Error: ")
