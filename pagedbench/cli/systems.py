"""`pagedbench systems`: what there is to compare."""

from __future__ import annotations


def systems() -> None:
    """List the systems: where keys and values live, and who runs next."""
    from rich import box
    from rich.table import Table

    from pagedbench.show.console import COMPARE_WIDTH, RUN_WIDTH, stdout_console
    from pagedbench.systems import ALIASES, SYSTEMS

    console = stdout_console(COMPARE_WIDTH)
    console.width = max(console.width, RUN_WIDTH)  # narrower, it shows nothing but edges
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("system", "alias", "memory", "batching", "attention", "what it is"):
        is_name = heading in ("system", "alias")
        table.add_column(
            heading, no_wrap=is_name, overflow="fold", min_width=15 if heading == "batching" else None
        )
    for system in SYSTEMS.values():
        aliases = ", ".join(alias for alias, name in ALIASES.items() if name == system.name)
        table.add_row(
            system.name, aliases, system.memory, system.batching, system.attention, system.summary
        )
    console.print(table)
