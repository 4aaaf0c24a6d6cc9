"""What `calibrate` prints and saves: a profile with the machine's name and its errors."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.files import json_text, write_file
from pagedbench.runs.machine import fingerprint, versions
from pagedbench.runs.memory_bandwidth import is_same, variation_sentence
from pagedbench.show.console import say
from pagedbench.show.table import Cell, Column, Table, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from pagedbench.runs.result import Bandwidths
    from pagedbench.simulation.operator_times import MatrixTimes, PassTimes
    from pagedbench.simulation.profile import Profile
    from pagedbench.tools.calibrate.fitting import Errors
    from pagedbench.tools.calibrate.kernel_fit import Fitted, KernelTimes
    from pagedbench.tools.calibrate.operator_fit import HeldOut
    from pagedbench.tools.calibrate.replay import Replay


NOISY_SPREAD = 0.25
"""The spread between rounds above which a machine is not quiet; on a quiet one it is about a tenth."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A profile, and its errors: on the batches that it was fitted to, on others, and on whole runs.

    Attributes:
        spread: how much slower the slowest round was than the fastest, as a share.
        bandwidths: bytes per second read from memory, before and after the batches; None: not measured.
    """

    profile: Profile
    rounds: int
    spread: float
    bandwidths: Bandwidths
    fit: Errors
    held_out: Errors
    replays: tuple[Replay, ...]


def check_place(place: Path, *, force: bool) -> None:
    """Refuse a place where the profile cannot be saved; to be called before the measurement.

    Raises:
        ConfigError: a file is there (without `force`), or no file can be written there.
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
            f"{place.parent} does not exist or is not writable: choose another --output"
        ) from None


def save_profile(calibration: Calibration, place: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        ReportError: it cannot be written, for instance because the disk is full.
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
    """Print the errors as tables, then where the profile is."""
    profile = calibration.profile
    say(console, f"{profile.model}, {profile.dtype}, {profile.kernels} kernels; {profile.device_name}")
    errors = {"fitted": calibration.fit, "held out": calibration.held_out}
    print_table(console, _error_table("batches", errors))
    for sentence in _sentences(calibration):
        say(console, sentence)
    if calibration.replays:
        print_table(console, _replay_table(calibration.replays))
    say(console, f"Saved to {place}: use it as --device sim:{place}")


def _sentences(calibration: Calibration) -> Iterator[str]:
    """How quiet the machine was, and what blocks cost."""
    if calibration.spread > NOISY_SPREAD:
        yield (
            f"The machine was not quiet: from round to round, batches took up to {calibration.spread:.0%} "
            "longer, and the profile may be off by as much. Close other programs and calibrate again."
        )
    found = calibration.profile.attention.factors.items()
    factors = ", ".join(f"{factor:.2f} at {size}" for size, factor in found)
    yield f"Decode attention over blocks, as a multiple of contiguous, by block size: {factors}."
    before, after = calibration.bandwidths
    if before is not None and after is not None and not is_same(before, after):
        yield variation_sentence(min(before, after), max(before, after))


def _replay_table(replays: Sequence[Replay]) -> Table:
    rows: list[tuple[object, ...]] = []
    for replay in replays:
        label = f"{replay.load} load, {replay.rate:.3g} requests/s"
        rows.append((Cell(label, style="bold"), "", "", ""))
        for name, (measured, simulated) in replay.values.items():
            rows.append((f"  {name}", measured, simulated, f"{simulated / measured - 1:+.1%}"))
        rows.append(("  parts of the KV pool, at most", "", "", f"{replay.kv_points:.1f} points"))
    return _table("replayed run", ("measured", "simulated", "error"), rows)


def print_operator_fit(
    console: Console, fits: Mapping[str, MatrixTimes], passes: PassTimes, held_out: Sequence[HeldOut]
) -> None:
    """Print the coefficients in the form of `a100_times`, and the errors on rows that no fit has seen."""
    found: dict[str, MatrixTimes | PassTimes] = {**fits, "passes over the tokens": passes}
    for label, times in found.items():
        say(console, f"{label}:")
        say(console, f"  {_coefficients(times)}")
    rows = [
        (row.what, *(f"{share:.1%}" for kind in (row.layers, row.products)
                     for share in (kind.median, kind.percentile_95)))
        for row in held_out
    ]  # fmt: skip
    headings = ("layers: median", "layers: 95 %", "products: median", "products: 95 %")
    print_table(console, _table("held out", headings, rows))
    say(
        console,
        "Each row: a model at a parallel degree, predicted from the other models at other degrees. layers: "
        "all operators of a layer but attention; products: single matrix products; 95 %: the percentile.",
    )


def print_kernel_fit(
    console: Console, fits: Sequence[Fitted], steps: Mapping[tuple[str, int], Errors]
) -> None:
    """Print the coefficients in the form of `modern_times`, and the errors on shapes that no fit has seen.

    Args:
        steps: the errors of whole decode steps by card and number of ranks.
    """
    for fit in fits:
        say(console, f"{fit.card}, {fit.kernel}:")
        say(console, f"  {_coefficients(fit.times)}")
    kernels = {f"{fit.card}, {fit.kernel}": fit.held_out for fit in fits}
    print_table(console, _error_table("held out", kernels))
    say(console, "Every third shape is held out, and predicted from the others.")
    ranks = {f"{card}, {degree} ranks": errors for (card, degree), errors in steps.items()}
    print_table(console, _error_table("decode steps", ranks))
    say(
        console,
        "Each decode step is the sum of its measured kernels (interpolated between measured sizes, without "
        "elementwise ones), compared with the committed coefficients.",
    )


def _error_table(first: str, errors: Mapping[str, Errors]) -> Table:
    rows = [
        (name, found.num_rows, f"{found.median:.1%}", f"{found.percentile_95:.1%}")
        for name, found in errors.items()
    ]
    return _table(first, ("number", "median error", "95th percentile"), rows)


def _coefficients(times: MatrixTimes | PassTimes | KernelTimes) -> str:
    values = asdict(times).items()
    parts = ", ".join(
        f"{name}={value}" if isinstance(value, bool) else f"{name}={value:.5g}" for name, value in values
    )
    return f"{type(times).__name__}({parts})"


def _table(first: str, others: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A column of names, and columns of figures."""
    columns = (Column(first, is_key=True, is_text=True), *(Column(heading) for heading in others))
    return Table(columns, rows)
