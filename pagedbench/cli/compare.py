"""`pagedbench compare`: every system on the same requests, in one table."""

from __future__ import annotations

import typer

from pagedbench.cli.options import Given, takes_run_options


@takes_run_options
def compare(given: Given) -> None:
    """Run every system (or those of --system) on the same requests and put them in one table."""
    from pagedbench.cli.configs import run_configs
    from pagedbench.cli.jobs import prepare
    from pagedbench.cli.run import print_document, print_plans
    from pagedbench.cli.session import Session
    from pagedbench.report.comparison import print_comparison
    from pagedbench.report.console import COMPARE_WIDTH, stdout_console
    from pagedbench.report.header import header_rows, rows_table
    from pagedbench.systems import SYSTEMS

    jobs = prepare(run_configs(given, default_systems=tuple(SYSTEMS)), given)
    if given.dry_run:
        print_plans(jobs)
        return
    session, console = Session(given), stdout_console(COMPARE_WIDTH)
    is_rich = given.format == "rich"
    if is_rich:
        console.print(rows_table(header_rows([job.plan for job in jobs], [job.trace for job in jobs])))
    for number, job in enumerate(jobs, start=1):
        session.execute(job, f"{job.plan.system.name} ({number}/{len(jobs)})")
        if session.is_interrupted:
            break
    if is_rich:
        print_comparison(console, session.results)
        if len(session.finished) < len(jobs):
            console.print(
                f"Interrupted: {len(jobs) - len(session.finished)} of {len(jobs)} runs never began."
            )
        for finished in session.finished:
            console.print(f"Saved to {finished.folder}", soft_wrap=True)
    else:
        print_document(session)
    raise typer.Exit(session.exit_code)
