"""`replay --certify`: how exactly requests are sent and replies are timed at rising rates."""

from __future__ import annotations

import math
import sys
from threading import Event
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts

if TYPE_CHECKING:
    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.replay.certify import RateCheck

MAX_REQUESTS = 1_000_000
DEFAULT_DURATION = 10.0
OPTIONS = ("duration", "seed")
"""Options of `run` that have an effect here: seconds at each rate, and the seed of the arrival times."""


def certify(options: CommandOptions, rates: str, num_workers: int) -> int:
    """Measure, print and save the certificate. Returns the exit code.

    Raises:
        ConfigError: an option is impossible, or has no effect here.
    """
    from pagedbench.config import flag
    from pagedbench.tools.replay.certify import highest_kept

    for name in options.flags:
        if name not in OPTIONS:
            raise ConfigError(f"{flag(name)} has no effect on --certify, which has its own requests")
    if options.output is not None:
        raise ConfigError("--output has no effect on --certify: the certificate is kept for this user")
    duration = float(options.flags.get("duration", (DEFAULT_DURATION,))[0])
    seed = int(options.flags.get("seed", (0,))[0])
    checks, is_interrupted = measured(
        parsed_rates(rates, duration), duration, num_workers, seed, options.format
    )
    if is_interrupted:
        return INTERRUPTED
    if any(check.problem for check in checks):
        return CRASHED
    is_invalid = not checks or highest_kept(checks) is None
    return INVALID if options.strict and is_invalid else 0


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


def measured(
    rates: list[float], duration: float, number: int, seed: int, format: str
) -> tuple[list[RateCheck], bool]:
    """Measure, print and save the certificate. Returns the checks, and whether Ctrl-C ended them.

    The checks before Ctrl-C are saved if they certify more than the existing certificate.
    """
    from pagedbench.clock import utc_text
    from pagedbench.loadgen.generate import check_generator
    from pagedbench.remote.certificate import certified, check_certificate_place
    from pagedbench.runs.machine import usable_cores
    from pagedbench.tools.replay.certify import check_rates, highest_kept, save_certificate

    check_generator()
    if not 1 <= number <= (limit := 8 * usable_cores()):
        raise ConfigError(f"--num-workers must be from 1 to {limit}, not {number}")
    check_certificate_place(number)
    stop, made, checks = Event(), utc_text(), list["RateCheck"]()
    with Interrupts(stop.set) as interrupts:
        for check in check_rates(rates, duration, number, seed, stop):
            checks.append(check)
            print(f"{check.rate:g} req/s: {'kept' if check.is_kept else 'not kept'}", file=sys.stderr)
    if checks:
        _show(checks, number, format)
    if problems := [check.problem for check in checks if check.problem]:
        print(f"Error: {problems[0]} Nothing was saved.", file=sys.stderr)
        return checks, interrupts.received
    before, kept = certified(number), highest_kept(checks)
    is_more = kept is not None and (before is None or kept.peak.requests > before.requests)
    if is_more or not interrupts.received:
        print(f"Saved to {save_certificate(checks, number, made)}", file=sys.stderr)
    return checks, interrupts.received


def _show(checks: list[RateCheck], num_workers: int, format: str) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.replay.certify_report import document, print_checks

    if format == "rich":
        print_checks(stdout_console(COMPARE_WIDTH), checks, num_workers)
    else:
        sys.stdout.write(document(checks, format))
