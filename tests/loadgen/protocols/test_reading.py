"""Replies of every API, read whole and cut anywhere."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.protocols.streams import CACHED, CHUNKS, IDS, PROMPT_LEN, STREAMS, TEXT
from pagedbench.loadgen.protocols.api import Api
from pagedbench.loadgen.protocols.reading import observe
from pagedbench.loadgen.protocols.table import PROTOCOLS
from pagedbench.loadgen.wire import Exchange, Failure

if TYPE_CHECKING:
    from pagedbench.loadgen.observation import Observation

ALL = pytest.mark.parametrize("api", list(Api))


def observed(api: Api, pieces: list[tuple[float, bytes]], status_code: int | None = 200) -> Observation:
    end = pieces[-1][0] if pieces else 1.0
    return observe(Exchange(0, 0.0, 0.0, 0.0, status_code, pieces, end), PROTOCOLS[api])


def said(seen: Observation) -> tuple[object, ...]:
    """Everything but the times."""
    counts = None if seen.chunk_tokens is None else seen.chunk_tokens.tolist()
    lengths = (seen.prompt_len, seen.output_len, seen.num_cached, len(seen.chunk_times), counts)
    return (*lengths, seen.text, seen.token_ids, seen.failure, seen.detail)


@ALL
def test_a_whole_reply(api: Api) -> None:
    seen = observed(api, [(2.0, STREAMS[api])])
    assert seen.failure is None, seen.detail
    assert (seen.text, seen.prompt_len, seen.output_len) == (TEXT, PROMPT_LEN, 4)
    assert seen.num_cached == CACHED.get(api)
    assert seen.token_ids == IDS.get(api)
    counts = seen.chunk_tokens
    assert (None if counts is None else counts.tolist()) == CHUNKS.get(api)
    assert len(seen.chunk_times) == len(CHUNKS.get(api, range(4)))


@given(st.sampled_from(list(Api)), st.sets(st.integers(1, 2000), max_size=40), st.booleans())
def test_cutting_the_stream_anywhere_changes_no_word(api: Api, cuts: set[int], carriage: bool) -> None:
    stream = STREAMS[api].replace(b"\n", b"\r\n") if carriage else STREAMS[api]
    ends = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [(float(i), stream[start:stop]) for i, (start, stop) in enumerate(pairwise(ends))]
    assert said(observed(api, pieces)) == said(observed(api, [(0.0, STREAMS[api])]))


@ALL
def test_a_chunk_has_the_time_at_which_its_line_was_whole(api: Api) -> None:
    lines = STREAMS[api].splitlines(keepends=True)
    seen = observed(api, [(float(i), line) for i, line in enumerate(lines)])
    times = seen.chunk_times.tolist()
    assert times == sorted(set(times))
    assert all(lines[int(time)].strip() for time in times), "the time of the blank line after it"
    assert times[-1] <= seen.finish < len(lines)


@pytest.mark.parametrize("api", [api for api in Api if api is not Api.OPENAI])
def test_counts_at_the_end_do_not_move_it(api: Api) -> None:
    lines = STREAMS[api].splitlines(keepends=True)
    seen = observed(api, [(float(i), line) for i, line in enumerate(lines)])
    assert seen.finish == seen.chunk_times[-1]


@pytest.mark.parametrize(
    ("api", "event"),
    [
        (Api.VLLM, '{"choices": [{"text": "", "finish_reason": "abort"}]}'),
        (Api.SGLANG, '{"text": "", "meta_info": {"finish_reason": {"type": "abort"}}}'),
    ],
)
def test_a_reply_that_was_given_up_is_not_whole(api: Api, event: str) -> None:
    seen = observed(api, [(1.0, f"data: {event}\n\ndata: [DONE]\n\n".encode())])
    assert (seen.failure, seen.detail) == (
        Failure.PROTOCOL,
        "an error in the stream: the reply ended with abort",
    )


def test_token_ids_that_are_not_all_there_are_none() -> None:
    """llama.cpp holds text back that may go on, and then gives only the last token's id."""
    stream = (
        b'data: {"content": "a b", "tokens": [2], "stop": false, "tokens_predicted": 2}\n\n'
        b'data: {"content": "", "tokens": [], "stop": true, "tokens_predicted": 2}\n\n'
    )
    seen = observed(Api.LLAMACPP, [(1.0, stream)])
    assert seen.failure is None
    assert seen.chunk_tokens is not None
    assert (seen.chunk_tokens.tolist(), seen.token_ids) == ([2], None)


@ALL
def test_a_stream_that_breaks_off_is_no_reply(api: Api) -> None:
    half = STREAMS[api][: STREAMS[api].index(b"\n", len(STREAMS[api]) // 4) + 1]
    seen = observed(api, [(1.0, half)])
    assert seen.failure is Failure.PROTOCOL
    assert seen.detail == "the stream ended before the reply did"


@ALL
@pytest.mark.parametrize("error", ['{"error": {"message": "no memory"}}', '{"error": "no memory"}'])
def test_an_error_in_the_stream(api: Api, error: str) -> None:
    prefix = "" if api is Api.OLLAMA else "data: "
    stream = STREAMS[api].splitlines(keepends=True)[0] + f"{prefix}{error}\n\n".encode()
    seen = observed(api, [(1.0, b"\n" + stream)])
    assert seen.failure is Failure.PROTOCOL
    assert seen.detail == "an error in the stream: no memory"


@ALL
@pytest.mark.parametrize("line", ["<html>", "[1]", "3", '{"other": 1}', '{"choices": [{}], "stop": []'])
def test_what_is_not_of_the_api_is_a_failure(api: Api, line: str) -> None:
    prefix = "" if api is Api.OLLAMA else "data: "
    seen = observed(api, [(1.0, f"{prefix}{line}\n\n".encode())])
    assert seen.failure is Failure.PROTOCOL
    assert seen.detail


@given(st.sampled_from(list(Api)), st.binary(max_size=200))
def test_no_bytes_crash_the_reader(api: Api, content: bytes) -> None:
    seen = observed(api, [(1.0, content)])
    assert seen.failure is Failure.PROTOCOL


def test_a_status_says_what_the_server_says() -> None:
    body = b'{"object": "error", "message": "prompt too\\n long", "code": 400}'
    seen = observed(Api.VLLM, [(1.0, body)], 400)
    assert (seen.failure, seen.detail) == (Failure.STATUS, "status 400: prompt too long")
    assert observed(Api.OPENAI, [], 503).detail == "status 503"


def test_what_failed_at_the_socket_stays_failed() -> None:
    exchange = Exchange(
        0, 0.0, 0.0, 0.0, 200, [(1.0, STREAMS[Api.TGI])], 3.0, Failure.TIMEOUT, "no end within 3 s"
    )
    seen = observe(exchange, PROTOCOLS[Api.TGI])
    assert (seen.failure, seen.detail, seen.finish) == (Failure.TIMEOUT, "no end within 3 s", 3.0)
    skipped = Exchange(0, 0.0, math.nan, math.nan, None, [], 3.0, Failure.SKIPPED)
    assert observe(skipped, PROTOCOLS[Api.TGI]).failure is Failure.SKIPPED
