"""What `calibrate --base-url` prints and saves: a profile of the server, and its errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pagedbench.option_values import typed
from pagedbench.runs.files import json_text, write_file
from pagedbench.runs.machine import versions
from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import say
from pagedbench.show.table import Cell, Column, Table, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from pagedbench.tools.calibrate.twin.measure import Check, Measured

NOTABLE_DRIFT = 0.1
"""A spread between loads above this means that the server or its machine was not quiet."""


def save_twin(measured: Measured, place: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        ReportError: it cannot be written, for instance because the disk is full.
    """
    document = {
        **measured.profile.document(),
        "errors": {"fit": asdict(measured.fit.errors)},
        "checks": [asdict(check) for check in measured.checks],
        "versions": versions(),
    }
    write_file(place, json_text(document).encode())


def print_twin(console: Console, measured: Measured, place: Path) -> None:
    """Print the measurements with their predictions, and how to use the file."""
    for sentence in _sentences(measured):
        say(console, sentence)
    print_table(console, _check_table(measured.checks))
    say(console, f"Saved to {place}: predict other rates, pools and policies of this server with")
    twin = measured.profile.twin
    assert twin is not None, "the profile of a server"
    options = " ".join(typed(name, value) for name, value in twin.options.items())
    say(console, f"  pagedbench run --device sim:{place} --model {measured.profile.model} {options}")


def _sentences(measured: Measured) -> Iterator[str]:
    fit, twin = measured.fit, measured.profile.twin
    assert twin is not None, "the profile of a server"
    yield f"{twin.source}, in {number(measured.seconds)} s."
    yield (
        f"{fit.num_seen:,} iterations recognized; averaged over up to 12 alike, the costs predict half of "
        f"them within {fit.errors.median:.1%} and 95 % within {fit.errors.percentile_95:.1%}. Apart from "
        f"its iterations, a request takes {number(1000 * fit.delay)} ms (network, HTTP, tokenizer)."
    )
    domain = fit.domain
    yield (
        f"Measured up to {counted(domain.sequences, 'decoding sequence')}, {domain.prefill_tokens:,} "
        f"prompt tokens per iteration and {domain.kept_tokens:,} stored tokens; predictions beyond say so."
    )
    if measured.was_cut:
        yield (
            "The time was up before every load had been sent: a longer --duration measures larger batches "
            "too."
        )
    if fit.drift > NOTABLE_DRIFT:
        yield (
            f"The server was up to {fit.drift:.0%} slower in some loads than in others, which the costs do "
            "not explain; the intervals of predictions include it."
        )


def _check_table(checks: tuple[Check, ...]) -> Table:
    rows: list[tuple[object, ...]] = []
    for check in checks:
        label = f"{check.rate:.3g} requests/s, {check.share:.0%} of what it sustains"
        rows.append((Cell(label, style="bold"), *[""] * 4))
        for name, item in check.values.items():
            error = f"{item.predicted / item.measured - 1:+.1%}" if item.measured else "-"
            inside = "yes" if item.is_inside else "no"
            rows.append((f"  {name}", item.measured, item.predicted, error, inside))
    columns = (Column("random arrivals", is_key=True, is_text=True),)
    names = ("measured", "predicted", "error", "in its interval")
    return Table((*columns, *map(Column, names)), rows)
