"""`pagedbench systems`: what there is to compare."""

from __future__ import annotations


def systems() -> None:
    """List the systems: their memory manager, their batching policy, and how attention reads the cache."""
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.table import Column, Table, print_table
    from pagedbench.systems import ALIASES, SYSTEMS

    columns = (
        Column("system", is_key=True, is_text=True),
        Column("alias", is_text=True),
        Column("memory", is_text=True),
        Column("batching", is_text=True),
        Column("attention", is_text=True),
        Column("what it is", is_text=True, wraps=True, priority=1),
    )
    rows = []
    for system in SYSTEMS.values():
        aliases = ", ".join(alias for alias, name in ALIASES.items() if name == system.name)
        rows.append(
            (system.name, aliases, system.memory, system.batching, system.attention, system.summary)
        )
    print_table(stdout_console(COMPARE_WIDTH), Table(columns, rows))
