"""A trace's traffic for people: times, sessions, what was seen before, and all of this over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number, span
from pagedbench.show.table import Column, Table
from pagedbench.workload.traffic_summary import arrivals_of, history_share, sessions_of

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.workload.rows import Row
    from pagedbench.workload.traffic_summary import Portion, Reuse, Seen

BAR_WIDTH = 16


def traffic_rows(rows: Items[Row], reuse: Reuse | None) -> list[tuple[str, str]]:
    """Facts about arrivals, sessions and repeated prompts, as far as the trace has them."""
    facts = []
    arrivals = arrivals_of(rows)
    if arrivals is not None:
        rate = "all at once" if arrivals.rate is None else f"{number(arrivals.rate)} requests/s on average"
        busiest = f"at most {arrivals.busiest_second:,} within a second"
        facts.append(("Arrivals", f"{span(arrivals.duration)}, {rate}, {busiest}"))
    if arrivals is not None and arrivals.gap_cv is not None:
        variation = f"coefficient of variation of the gaps {number(arrivals.gap_cv)}"
        facts.append(("Burstiness", f"{variation} (1: a Poisson process)"))
    sessions = sessions_of(rows)
    if sessions is not None:
        mean = number(sessions.num_turns / sessions.number)
        turns = f"{mean} a session on average, {sessions.longest:,} at most"
        facts.append(("Turns", f"{turns}; {sessions.num_joining:,} wait for several others"))
    share = history_share(rows)
    if share is not None:
        facts.append(
            ("Seen before", f"{_percent(share)} of prompt tokens are earlier turns of the session")
        )
    if reuse is not None:
        facts += _reuse_rows(rows, reuse)
    return facts


def _reuse_rows(rows: Items[Row], reuse: Reuse) -> list[tuple[str, str]]:
    sizes = sorted({row.blocks.size for row in rows if row.blocks is not None})
    words = " and ".join(f"{size:g}" for size in sizes[:3]) + (" and others" if len(sizes) > 3 else "")
    facts = [
        (
            "Blocks",
            f"{reuse.everywhere.num_blocks:,} of {words} tokens, {reuse.num_distinct:,} of them different",
        ),
        ("Seen before", f"in any request: {_shares(reuse.everywhere)} (the most that a cache can hit)"),
        ("", f"the same, second half of the requests: {_shares(reuse.second_half)}"),
    ]
    if reuse.own is not None:
        facts.append(("", f"in the own session: {_shares(reuse.own)}"))
    return facts


def _shares(seen: Seen) -> str:
    return f"{_percent(seen.block_share)} of blocks, {_percent(seen.token_share)} of tokens"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def portions_table(
    portions: Items[Portion], *, is_timed: bool, has_blocks: bool, ascii_only: bool
) -> Table:
    """The tenths of a trace: the rate as bars, and how many different tokens each needs."""
    rates = [_rate(portion) for portion in portions]
    highest = max(rates) or 1.0
    block = "#" if ascii_only else "█"
    columns = [Column("seconds" if is_timed else "requests", is_key=True)]
    if is_timed:
        columns.append(Column("requests/s", is_text=True))
    columns.append(Column("prompt tokens"))
    if has_blocks:
        columns += [Column("different tokens"), Column("seen before", unit="%")]
    rows = []
    for portion, rate in zip(portions, rates, strict=True):
        cells: list[object] = [f"{portion.start + (not is_timed):,.0f}-{portion.end:,.0f}"]
        if is_timed:
            cells.append(f"{block * round(BAR_WIDTH * rate / highest)} {number(rate)}")
        cells.append(portion.prompt_tokens)
        if has_blocks:
            seen = 100 * portion.seen_tokens / portion.prompt_tokens if portion.prompt_tokens else None
            cells += [portion.distinct_tokens, seen]
        rows.append(tuple(cells))
    return Table(tuple(columns), rows)


def _rate(portion: Portion) -> float:
    seconds = portion.end - portion.start
    return portion.num_requests / seconds if seconds else 0.0
