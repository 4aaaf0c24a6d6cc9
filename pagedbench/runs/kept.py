"""Kept: tasks whose outcomes stay in a checkpoint, so that a repeated command computes the rest."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.clock import utc_text
from pagedbench.runs.checkpoint import checkpoint_in, digest_of, is_unfinished
from pagedbench.runs.file_names import dated_folder
from pagedbench.runs.files import check_default_place
from pagedbench.runs.machine import fingerprint
from pagedbench.runs.parallel import Failure
from pagedbench.runs.workers import in_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pagedbench.config import RunConfig
    from pagedbench.runs.checkpoint import Checkpoint
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.parallel import Stop
    from pagedbench.runs.workers import Workers


def kept_by(config: RunConfig, *more: object) -> object:
    """What determines the outcome of a task: for a measurement, this machine too."""
    return (config, *more, None if config.is_simulated else fingerprint())


def contents_of(configs: Iterable[RunConfig]) -> str:
    """The sha256 of all files that options name: traces, cost models, models' configs, users' classes."""
    values = {getattr(config, field.name) for config in configs for field in fields(config)}
    files = [file for value in values if isinstance(value, str) for file in _files_of(value)]
    return digest_of(sorted(files))


def _files_of(value: str) -> list[Path]:
    path, (module, _, name) = Path(value), value.partition(":")
    if path.is_dir():
        return sorted(path.glob("*.json"))  # of a model; its weights would be too large
    if path.is_file():
        return [path]
    spec = find_spec(module) if name.isidentifier() and module in sys.modules else None
    return [] if spec is None or spec.origin is None else [Path(spec.origin)]


def resumable(options: CommandOptions, command: str) -> CommandOptions:
    """The options with a folder for the results, perhaps one in which the command was interrupted.

    Raises:
        ConfigError: no folder was given, and none can be made.
    """
    if options.output is not None:
        return replace(options, force=options.force or is_unfinished(options.output))
    if options.dry_run:
        return options
    check_default_place()
    return replace(options, output=dated_folder(command, utc_text()))


@contextlib.contextmanager
def kept_in(
    folder: Path, command: str, tasks: Sequence[Any], configs: Iterable[RunConfig],
    key: Callable[[Any], object], *, is_new: bool,
) -> Iterator[Kept]:  # fmt: skip
    """Within the block, what a command has computed of its tasks is kept in the folder of its results.

    Args:
        configs: those of the tasks; the files that they name also determine outcomes.
        key: what else determines the outcome of a task, see `Checkpoint`.

    Raises:
        ConfigError: another command is at work in the folder.
    """
    with checkpoint_in(folder, command, contents_of(configs), is_new=is_new) as checkpoint:
        kept = Kept(checkpoint, tasks, key)
        yield kept
        if len(kept.outcomes) == len(tasks):
            checkpoint.remove()
        elif kept.outcomes:
            words = f"Finished parts are kept: the same command with --output {folder} computes the rest."
            print(words, file=sys.stderr)


class Kept:
    """The outcomes of tasks.

    Attributes:
        outcomes: by the number of the task; at first those that an earlier command has left.
    """

    def __init__(self, checkpoint: Checkpoint, tasks: Sequence[Any], key: Callable[[Any], object]) -> None:
        self._checkpoint = checkpoint
        self._tasks = tasks
        self._keys = {str(number): key(task) for number, task in enumerate(tasks)}
        known = checkpoint.results(self._keys)
        self.outcomes: dict[int, Any] = {int(number): outcome for number, outcome in known.items()}

    def compute(
        self,
        work: Callable[[Any, Stop], Any],
        workers: Workers,
        stop: Stop,
        finished: Callable[[Any, Any], Any] = lambda _, outcome: outcome,
    ) -> Iterator[tuple[Any, Any | Failure | None]]:
        """The remaining tasks with their outcomes, as they end. None: `stop` ended the task.

        Args:
            finished: from a task and its outcome, what is kept.
        """
        left = {number: task for number, task in enumerate(self._tasks) if number not in self.outcomes}
        for task, outcome in in_workers(work, left.values(), workers, stop):
            if outcome is None or isinstance(outcome, Failure):
                yield task, outcome
                continue
            number = next(number for number, other in left.items() if other is task)
            self.outcomes[number] = finished(task, outcome)
            self._checkpoint.keep(self._keys[str(number)], self.outcomes[number])
            yield task, self.outcomes[number]
