"""Saved runs, read back from their folders; damaged or incomplete folders are refused."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.runs.result import RunStatus
from pagedbench.runs.summary import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pandas as pd

NEEDED = ("manifest.json", "config.toml", "summary.json", "summary.csv", "requests.csv", "steps.csv")
"""Files of every complete run folder."""


@dataclass(frozen=True)  # without slots, so that tables can be kept once read
class SavedRun:
    """One run folder.

    Attributes:
        folder: its path.
        manifest: manifest.json: the origin of the run, its status, whether it is valid.
        summary: summary.json: every metric by topic, with unit and interval.
        config: config.toml: the resolved options; those without a value are absent.
    """

    folder: Path
    manifest: dict[str, Any]
    summary: dict[str, Any]
    config: dict[str, Any]

    @property
    def status(self) -> RunStatus:
        return RunStatus(self.manifest["status"])

    @property
    def is_complete(self) -> bool:
        return self.status is RunStatus.COMPLETE

    @property
    def system(self) -> str:
        """The name in tables; with a user's own class it differs from `--system`."""
        return str(self.summary["run"].get("system") or self.config["system"])

    @property
    def rate(self) -> float | None:
        """Offered requests per second; None if the trace's own times were replayed."""
        rate = self.summary["run"]["rate"]
        return None if rate is None else float(rate)

    @property
    def bandwidths(self) -> list[float]:
        """Memory bandwidth before and after the run, in bytes per second; empty if it was not read."""
        found = self.manifest.get("memory_bandwidth")
        known = found.values() if isinstance(found, dict) else ()
        return [float(reading) for reading in known if isinstance(reading, int | float)]

    @property
    def is_busy(self) -> bool:
        """Whether other programs starved the run; False if that is not known."""
        found = self.manifest.get("machine_load")
        return isinstance(found, dict) and found.get("busy") is True

    @property
    def is_usable(self) -> bool:
        """Whether it is valid and was not starved."""
        return bool(self.values["valid"]) and not self.is_busy

    @property
    def is_of_server(self) -> bool:
        """Did a foreign server serve it? Its iterations are then not known."""
        return "server" in self.manifest

    @cached_property
    def values(self) -> dict[str, Any]:
        """Metric name -> value, as in summary.csv; None where it is not defined."""
        return {
            name: entry["value"]
            for topic in self.summary.values()
            if isinstance(topic, dict)
            for name, entry in topic.items()
            if isinstance(entry, dict) and "value" in entry
        }

    @cached_property
    def requests(self) -> pd.DataFrame:
        """requests.csv: one row per request that left, by `request_id`. Raises as `_table`."""
        return self._table("requests.csv", self.values["completed"] + self.values["failed"])

    @cached_property
    def steps(self) -> pd.DataFrame:
        """steps.csv: one row per iteration; `t_s` is its start, kv_* are slots. Raises as `_table`."""
        return self._table("steps.csv", self.values["num_steps"] or 0)

    @cached_property
    def preemptions(self) -> pd.DataFrame | None:
        """preemptions.csv: one row per preemption, in order; None without any. Raises as `_table`."""
        number = (self.values["preemptions_recompute"] or 0) + (self.values["preemptions_swap"] or 0)
        return self._table("preemptions.csv", number) if number else None

    @cached_property
    def evictions(self) -> pd.DataFrame | None:
        """evictions.csv: evicted contents that were computed again; None without the file.

        Raises:
            ConfigError: it is damaged.
        """
        import pandas as pd

        path = self.folder / "evictions.csv"
        if not path.is_file():
            return None
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}): repeat the run") from None

    def _table(self, name: str, num_rows: int) -> pd.DataFrame:
        """A table of the run.

        Raises:
            ConfigError: the table is damaged, or its length differs from the summary's.
        """
        import pandas as pd

        path = self.folder / name
        try:
            table = pd.read_csv(path, dtype={"session_id": "str"}).fillna({"session_id": ""})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}): repeat the run") from None
        if len(table) != num_rows:
            raise ConfigError(
                f"{path} has {len(table):,} rows, but the summary says {num_rows:,}: repeat the run"
            )
        return table


def load_runs(paths: Iterable[Path]) -> list[SavedRun]:
    """The runs in run folders, sweeps and folders of runs, each once, in the order named.

    Within a folder the runs are in the order of their names. Hidden folders are ignored.

    Raises:
        ConfigError: a path is missing or holds no run, or a run in it is damaged or incomplete.
    """
    runs: dict[Path, SavedRun] = {}
    for path in paths:
        found = list(_run_folders(path))
        if not found:
            raise ConfigError(f"{path} holds no run: name a run folder, a sweep or a folder of runs")
        for folder in found:
            runs.setdefault(folder.resolve(), load_run(folder))
    return list(runs.values())


def load_only_run(path: Path) -> SavedRun:
    """The only run in a path. Raises as `load_runs`, and if there are several."""
    runs = load_runs([path])
    if len(runs) > 1:
        raise ConfigError(f"{path} holds {len(runs)} runs: name one of them, such as {runs[0].folder}")
    return runs[0]


def load_run(folder: Path) -> SavedRun:
    """The run in one folder.

    Raises:
        ConfigError: it is missing, damaged or incomplete.
    """
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{folder} is not a complete run: it lacks {', '.join(missing)}; repeat the run")
    manifest, summary = (_document(folder / name) for name in ("manifest.json", "summary.json"))
    run = SavedRun(folder, manifest, summary, _parsed(folder / "config.toml", tomllib.loads))
    try:
        _ = run.status, run.system, run.rate, run.values["completed"], run.values["num_steps"]
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{folder} is damaged: its summary has no figures; repeat the run") from None
    return run


def _run_folders(path: Path) -> Iterator[Path]:
    """The path itself if it is a run folder, or else the run folders in it, at any depth."""
    if not path.exists():
        raise ConfigError(f"there is no folder {path}: name a saved run")
    if not path.is_dir():
        raise ConfigError(f"{path} is a file: name the folder of a run")
    if any((path / name).exists() for name in ("config.toml", "summary.json", "requests.csv")):
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _run_folders(entry)


def _document(path: Path) -> dict[str, Any]:
    """A JSON object of the current schema version."""
    document = _parsed(path, json.loads)
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is damaged: it holds no object; repeat the run")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ConfigError(f"{path} has schema version {version}, not {SCHEMA_VERSION}: repeat the run")
    return document


def _parsed(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}): repeat the run") from None
