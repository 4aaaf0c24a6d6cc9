"""A trace that is one JSON object with a list of requests: token ids, or a session of agents."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pagedbench.workload.readers.token_ids import token_rows
from pagedbench.workload.readers.weka import SESSION_FIELDS, is_session
from pagedbench.workload.rows import Row, TraceError, collected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.json_stream import JsonStream
    from pagedbench.workload.readers.weka import WekaSession, WekaSessions


def read_document(
    document: JsonStream, source: str, sessions: WekaSessions, file_name: str, *, timed: bool
) -> Sequence[Row]:
    """The rows of the object that begins here.

    Args:
        sessions: reads the object if it is a session; the next two arguments are for this case.
        file_name: the name of a session that has no id.
        timed: read arrival times too.

    Raises:
        TraceError: it is neither, or malformed.
    """
    fields: dict[str, Any] = {}
    found: tuple[Row, ...] | WekaSession | None = None
    for name in document.names():
        if name == "requests" and document.next_character() == "[":
            if found is not None:
                raise TraceError(f'{source} has more than one list "requests"')
            elements = document.elements()
            first = list(itertools.islice(elements, 1))
            everything = itertools.chain(first, elements)
            if first and is_session(first[0]):
                found = sessions.begin(source, fields)
                found.add_requests(everything)
            else:
                found = collected(token_rows(everything, source), source)
        elif name in SESSION_FIELDS:
            fields[name] = document.value()
        else:
            document.value()
    if found is None:
        raise TraceError(
            f'{source} is a JSON object without a list "requests": a trace is a list of ShareGPT or Alpaca '
            'records, {"requests": [{"prompt": [ids], "out": n}]}, a Weka session, or one object per line'
        )
    rows = found if isinstance(found, tuple) else sessions.rows(found, fields, file_name, timed=timed)
    if not rows:
        raise TraceError(f"{source} holds no requests")
    return rows
