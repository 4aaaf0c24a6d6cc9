"""What `calibrate` says and saves: a profile with the machine's name and its errors."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.files import json_text, write_file
from pagedbench.runs.machine import fingerprint, versions
from pagedbench.runs.numbers import number
from pagedbench.runs.pace import alike, format_pace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from pagedbench.runs.pace import Paces
    from pagedbench.simulation.operator_times import MatrixTimes, PassTimes
    from pagedbench.simulation.profile import Profile
    from pagedbench.tools.calibrate.fitting import Errors
    from pagedbench.tools.calibrate.operator_fit import HeldOut
    from pagedbench.tools.calibrate.replay import Replay


NOISY_SPREAD = 0.25
"""Between rounds; on a quiet machine of two cores it is about a tenth."""


class Stages:
    """What is being measured, on stderr: in one line that changes, or a line a stage where none can."""

    def __init__(self, first: str) -> None:
        from pagedbench.show.console import shows_live, stderr_console

        self._console = stderr_console()
        self._is_live = shows_live(self._console)
        self._status = self._console.status(first)
        self._stage = ""

    def __enter__(self) -> Stages:
        if self._is_live:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def tell(self, text: str) -> None:
        """`text`: a stage, and after a colon how far it is."""
        stage, _, _ = text.partition(":")
        if self._is_live:
            self._status.update(text)
        elif stage != self._stage:
            self._stage = stage
            self._console.print(stage, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A profile, and how far it is off: on what it was fitted to, on other batches, and on whole runs.

    Attributes:
        spread: how much slower the slowest round was than the fastest, as a share.
        bandwidths: bytes per second read from memory, before and after the batches; None: not measured.
    """

    profile: Profile
    rounds: int
    spread: float
    bandwidths: Paces
    fit: Errors
    held_out: Errors
    replays: tuple[Replay, ...]


def check_place(place: Path, *, force: bool) -> None:
    """Can the profile be saved there? To be asked before anything is measured.

    Raises:
        ConfigError: a file is there (without `force`), or it is no place for one.
    """
    if place.is_dir():
        raise ConfigError(f"{place} is a folder: give the profile a file's name")
    if place.exists() and not force:
        raise ConfigError(f"{place} exists: choose another --output, or replace it with --force")
    try:
        with tempfile.TemporaryFile(dir=place.parent):
            pass
    except OSError:
        raise ConfigError(
            f"{place.parent} cannot be written to, or is not there: choose another --output"
        ) from None


def save_profile(calibration: Calibration, place: Path) -> None:
    """Write the file. It is there as a whole or not at all.

    Raises:
        ReportError: the disk is full, and the like.
    """
    document = {
        **calibration.profile.document(),
        "rounds": calibration.rounds,
        "spread_between_rounds": calibration.spread,
        "memory_bandwidths": calibration.bandwidths,
        "errors": {"fit": asdict(calibration.fit), "held_out": asdict(calibration.held_out)},
        "replays": [asdict(replay) for replay in calibration.replays],
        "machine": fingerprint(),
        "versions": versions(),
    }
    write_file(place, json_text(document).encode())


def print_calibration(console: Console, calibration: Calibration, place: Path) -> None:
    """Errors as tables, then where the profile is."""
    profile = calibration.profile
    console.print(f"{profile.model}, {profile.dtype}, {profile.kernels} kernels; {profile.device_name}")
    errors = _table("batches", "number", "median error", "95th percentile")
    for label, found in (("fitted", calibration.fit), ("held out", calibration.held_out)):
        errors.add_row(label, str(found.num_rows), f"{found.median:.1%}", f"{found.percentile_95:.1%}")
    console.print(errors)
    if calibration.spread > NOISY_SPREAD:
        console.print(
            f"The machine was not quiet: from round to round, batches took up to {calibration.spread:.0%} "
            "longer. Close other programs and calibrate again; the profile may be off by as much.",
            soft_wrap=True,
        )
    factors = ", ".join(f"{factor:.2f} at {size}" for size, factor in profile.attention.factors.items())
    console.print(
        f"Decode attention over blocks, as a multiple of contiguous, by block size: {factors}.",
        soft_wrap=True,
    )
    before, after = calibration.bandwidths
    if not alike(before, after):
        console.print(
            f"Memory bandwidth varied during the measurement ({format_pace(before)} before it, "
            f"{format_pace(after)} after it): timings on this machine are unstable.",
            soft_wrap=True,
        )
    if calibration.replays:
        console.print(_replay_table(calibration.replays))
    console.print(f"Saved to {place}: use it as --device sim:{place}", soft_wrap=True)


def _replay_table(replays: Sequence[Replay]) -> Table:
    table = _table("replayed run", "measured", "simulated", "off by")
    for replay in replays:
        label = f"{replay.load} load, {replay.rate:.3g} requests/s"
        table.add_row(f"[bold]{label}[/]", "", "", "")
        for name, (measured, simulated) in replay.values.items():
            off_by = f"{simulated / measured - 1:+.1%}"
            table.add_row(f"  {name}", number(measured), number(simulated), off_by)
        table.add_row("  parts of the KV pool, at most", "", "", f"{replay.kv_points:.1f} points")
    return table


def print_operator_fit(
    console: Console, fits: Mapping[str, MatrixTimes], passes: PassTimes, held_out: Sequence[HeldOut]
) -> None:
    """The coefficients as they stand in `costs.a100_times`, and the errors on rows that no fit has seen."""
    for label, times in fits.items():
        console.print(f"{label}:", soft_wrap=True)
        console.print(f"  {_coefficients(times)}", soft_wrap=True, markup=False)
    console.print("passes over the tokens:")
    console.print(f"  {_coefficients(passes)}", soft_wrap=True, markup=False)
    table = _table("held out", "layers: median", "95 %", "products: median", "95 %")
    for row in held_out:
        shown = [f"{part:.1%}" for kind in (row.layers, row.products)
                 for part in (kind.median, kind.percentile_95)]  # fmt: skip
        table.add_row(row.what, *shown)
    console.print(table)
    console.print(
        "Each row: a model at a parallel degree, predicted from the other models at other degrees. A layer "
        "is all its operators but attention; products are single matrix products; 95 % is a percentile.",
        soft_wrap=True,
    )


def _coefficients(times: MatrixTimes | PassTimes) -> str:
    parts = ", ".join(f"{name}={value:.5g}" for name, value in asdict(times).items())
    return f"{type(times).__name__}({parts})"


def _table(first: str, *others: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
