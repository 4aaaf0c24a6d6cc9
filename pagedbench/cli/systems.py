"""`pagedbench systems`: what there is to compare."""

from __future__ import annotations


def systems() -> None:
    """List the systems: where keys and values live, and who runs next."""
    from rich import box
    from rich.table import Table

    from pagedbench.report.console import COMPARE_WIDTH, stdout_console
    from pagedbench.systems import ALIASES, SYSTEMS

    console = stdout_console(COMPARE_WIDTH)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("system", "alias", "memory", "batching", "attention", "what it is"):
        table.add_column(heading, no_wrap=heading in ("system", "alias"))
    for system in SYSTEMS.values():
        aliases = ", ".join(alias for alias, name in ALIASES.items() if name == system.name)
        table.add_row(
            system.name, aliases, system.memory, system.batching, system.attention, system.summary
        )
    console.print(table)
