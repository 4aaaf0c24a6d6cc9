"""Saves what was served as a run folder."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.request import Status
from pagedbench.runs.files import write_run
from pagedbench.runs.result import Result
from pagedbench.tools.serve.service import END_SECONDS
from pagedbench.workload.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RequestRecord
    from pagedbench.tools.serve.service import Served

SOURCE = "requests of clients, as they came"


def save(served: Served, folder: Path, *, force: bool) -> str:
    """Write the run folder. Returns a sentence about it.

    Requests that were aborted by their clients stay in it, with that status.
    """
    if served.record is None:
        return f"The engine did not stop within {END_SECONDS:g} s; nothing was written."
    if not served.record.requests:
        return "No request has ended, so nothing was written."
    in_order = sorted(served.record.requests, key=lambda item: item.request.arrival_time)
    requests = tuple(_numbered(item, i) for i, item in enumerate(in_order))
    record = replace(served.record, requests=requests)
    trace = Trace("live", tuple(item.request for item in requests), SOURCE, synthetic=False, arrival="live")
    result = Result(
        served.plan,
        trace,
        record,
        command=shlex.join(["pagedbench", *sys.argv[1:]]),
        started=served.started,
        ended=served.ended,
    )
    return f"Wrote {write_run(result, folder, force=force, save_outputs=False)}"


def _numbered(item: RequestRecord, number: int) -> RequestRecord:
    """The record with the number of its request in this service, and the actual length of its reply."""
    length = item.num_tokens if item.status is Status.FINISHED else item.request.sampling.max_tokens
    return replace(item, request=replace(item.request, request_id=number, output_len=length))
