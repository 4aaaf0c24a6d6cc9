"""`pagedbench replay`: so far, only how exact its load generator is."""

from __future__ import annotations

import math
import sys
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CHOICES

if TYPE_CHECKING:
    from pagedbench.tools.replay.certify import RateCheck

MAX_REQUESTS, MAX_WORKERS_PER_CORE = 1_000_000, 8


def replay(
    certify: Annotated[
        bool, typer.Option("--certify", help="Measure the load generator against a server of known delays.")
    ] = False,
    rates: Annotated[
        str, typer.Option(help="Requests a second, one after the other.")
    ] = "100,300,1000,3000",
    duration: Annotated[float, typer.Option(help="Seconds at each rate.")] = 10.0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that send \\[one per core less one, for the server].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the arrival times.", min=0)] = 0,
    format: Annotated[
        str, typer.Option(help=f"What stdout shows: {', '.join(CHOICES['format'])}.")
    ] = "rich",
) -> None:
    """Measure how exactly requests are sent and replies are timed, at rising rates.

    The highest rate that was kept is noted for this machine, and later runs above it say so. Exit code 5:
    not even the lowest rate was kept.
    """
    if not certify:
        raise ConfigError("replay so far only measures its load generator: add --certify")
    if format not in CHOICES["format"]:
        raise ConfigError(f"--format is one of {', '.join(CHOICES['format'])}, not {format!r}")
    raise typer.Exit(run_certify(parsed_rates(rates, duration), duration, workers, seed, format))


def parsed_rates(text: str, duration: float) -> list[float]:
    """The rates of `--rates`, in rising order.

    Raises:
        ConfigError: one is not a number, not positive, or too many requests for the duration.
    """
    try:
        rates = sorted({float(word) for word in text.split(",")})
    except ValueError:
        raise ConfigError(f"--rates takes numbers such as 100,1000, not {text!r}") from None
    if not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise ConfigError(f"--rates must be positive, not {text}")
    if not (math.isfinite(duration) and duration > 0):
        raise ConfigError(f"--duration must be positive, not {duration:g}")
    if rates[-1] * duration > MAX_REQUESTS:
        raise ConfigError(f"--rates times --duration must be at most {MAX_REQUESTS} requests")
    return rates


def run_certify(rates: list[float], duration: float, workers: int | None, seed: int, format: str) -> int:
    """Measure, print and keep the certificate. Returns the exit code."""
    from pagedbench.clock import utc_text
    from pagedbench.loadgen.generate import check_generator
    from pagedbench.runs.machine import usable_cores
    from pagedbench.tools.replay.certify import (
        check_certificate_place,
        check_rates,
        highest_kept,
        save_certificate,
    )

    check_generator()
    limit = MAX_WORKERS_PER_CORE * usable_cores()
    if workers is not None and not 1 <= workers <= limit:
        raise ConfigError(f"--workers must be from 1 to {limit} on this machine, not {workers}")
    check_certificate_place()
    number = workers or max(usable_cores() - 1, 1)
    stop, made, checks = Event(), utc_text(), list["RateCheck"]()
    with Interrupts(stop.set) as interrupts:
        for check in check_rates(rates, duration, number, seed, stop):
            checks.append(check)
            print(f"{check.rate:g} req/s: {'kept' if check.is_kept else 'not kept'}", file=sys.stderr)
    if checks:
        _show(checks, number, format)
    if interrupts.received:
        return INTERRUPTED
    print(f"Saved to {save_certificate(checks, number, made)}", file=sys.stderr)
    return INVALID if highest_kept(checks) is None else 0


def _show(checks: list[RateCheck], num_workers: int, format: str) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.replay.certify_report import document, print_checks

    if format == "rich":
        print_checks(stdout_console(COMPARE_WIDTH), checks, num_workers)
    else:
        sys.stdout.write(document(checks, format))
