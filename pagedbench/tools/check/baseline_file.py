"""Baseline: the expected results of the check, a JSON file in the current folder or in the package."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pagedbench
from pagedbench.clock import utc_text
from pagedbench.config import ConfigError
from pagedbench.runs.files import json_text, write_file
from pagedbench.runs.machine import git_commit
from pagedbench.tools.check.footprint import Footprint

NAME = "pagedbench-baseline.json"
KIND = "pagedbench-baseline"
SCHEMA_VERSION = 1

PACKAGED = Path(__file__).with_name(NAME)

WALL_FIELDS = {"machine": dict, "runs": dict, "saved": str}


@dataclass(frozen=True, slots=True)
class Baseline:
    """The results that a check compares with.

    Attributes:
        version: version of the pagedbench that saved it.
        commit: commit of its checkout, if it ran from one.
        saved: time as ISO 8601, in UTC.
        cases: footprints by name.
        wall: figures of real runs on one machine: "machine", "runs" (metric -> values) and "saved"; of
            runs against a server also "server", its product and model.
    """

    version: str
    commit: str | None
    saved: str
    cases: dict[str, Footprint] = field(default_factory=dict)
    wall: dict[str, Any] | None = None


def new_baseline(cases: dict[str, Footprint], wall: dict[str, Any] | None) -> Baseline:
    """A baseline of this version and commit, saved now."""
    return Baseline(pagedbench.__version__, git_commit(), utc_text(), cases, wall)


def find_baseline(baseline: Path | None) -> Path:
    """The baseline named, or else the one in the current folder, or else the package's.

    Raises:
        ConfigError: there is none.
    """
    own = Path(NAME)
    path = baseline or (own if own.exists() else PACKAGED)
    if not path.exists():
        raise ConfigError(f"there is no baseline {path}: pagedbench baseline save writes one")
    return path


def place_of_update(baseline: Path | None) -> Path:
    """The file to write a new baseline to.

    The package's own file is rewritten only within the checkout that it is committed to; users of an
    installed package get a file of their own.
    """
    own = Path(NAME)
    if baseline is not None or own.exists():
        return baseline or own
    is_ours = PACKAGED.resolve().is_relative_to(Path.cwd()) and git_commit(PACKAGED) is not None
    return PACKAGED if is_ours else own


def read_baseline(path: Path) -> Baseline:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, is not a baseline, or has another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the baseline {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not a baseline: it is broken JSON ({error})") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ConfigError(
            f"{path} is not a baseline of pagedbench check: pagedbench baseline save writes one"
        )
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} has version {document.get('schema_version')} of the baseline format, but this "
            f"pagedbench reads version {SCHEMA_VERSION}: save it again with pagedbench baseline save"
        )
    return _from_document(document, path)


def _from_document(document: dict[str, Any], path: Path) -> Baseline:
    cases, commit, wall = document.get("cases"), document.get("commit"), document.get("wall")
    texts = (document.get("pagedbench"), document.get("saved"))
    is_sound = isinstance(cases, dict) and all(isinstance(text, str) for text in texts)
    if not (is_sound and isinstance(commit, str | None) and _is_wall(wall)):
        raise ConfigError(f"{path} is a damaged baseline: save it again with pagedbench baseline save")
    assert isinstance(cases, dict)
    footprints = {}
    for name, case in cases.items():
        try:
            footprints[name] = Footprint.from_document(case)
        except ConfigError as error:
            raise ConfigError(f"{path} is a damaged baseline, in its case {name}: {error}") from error
    return Baseline(str(texts[0]), commit, str(texts[1]), footprints, wall)


def _is_wall(wall: object) -> bool:
    if wall is None:
        return True
    if not isinstance(wall, dict):
        return False
    if not all(isinstance(wall.get(name), kind) for name, kind in WALL_FIELDS.items()):
        return False
    server = wall.get("server")
    if server is not None and not (isinstance(server, dict) and {"product", "model"} <= set(server)):
        return False
    return all(
        isinstance(items, list) and len(items) > 1 and all(map(_is_figure, items))
        for items in wall["runs"].values()
    )


def _is_figure(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value) and value > 0


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline with one line per item, so that a diff of two is readable.

    Raises:
        ReportError: for example, the path is not writable.
    """
    document = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "pagedbench": baseline.version,
        "commit": baseline.commit,
        "saved": baseline.saved,
        "cases": {name: footprint.document() for name, footprint in baseline.cases.items()},
        "wall": baseline.wall,
    }
    write_file(path, json_text(document).encode())
