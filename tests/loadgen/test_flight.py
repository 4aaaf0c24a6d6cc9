"""Replies come out byte for byte however they are cut, and their end is found."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pagedbench.loadgen.flight import Flight
from pagedbench.loadgen.wire import Call, Exchange, Failure

BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def flight() -> Flight:
    return Flight(Call(0, 0.0, b""), Exchange(0, 0.0, 0.0, 0.0, None, [], math.nan))


def feed(target: Flight, data: bytes, cuts: list[int]) -> None:
    """In parts, one a second."""
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts} - {0, len(data)}), len(data)]
    for second, (begin, end) in enumerate(pairwise(places)):
        target.feed(data[begin:end], float(second))


def chunked(parts: list[bytes]) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(BODIES, st.lists(st.integers(0, 500), max_size=12), st.sampled_from(["chunked", "length", "close"]))
def test_a_body_is_the_same_however_it_is_cut(parts: list[bytes], cuts: list[int], how: str) -> None:
    body = b"".join(parts)
    reply = {
        "chunked": chunked(parts),
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body,
    }[how]
    taken = flight()
    feed(taken, reply, cuts)
    if how == "close":
        assert not taken.is_complete
        taken.close()
    exchange = taken.exchange
    assert taken.is_complete
    assert exchange.failure is None
    assert exchange.status_code == 200
    assert b"".join(data for _, data in exchange.pieces) == body
    times = [time for time, _ in exchange.pieces]
    assert times == sorted(set(times))  # one piece a read
    assert taken.keeps_alive == (how != "close")


@given(BODIES, st.integers(0, 400))
def test_a_reply_cut_off_is_a_failure_with_what_came(parts: list[bytes], place: int) -> None:
    reply = chunked(parts)
    taken = flight()
    taken.feed(reply[: place % len(reply)], 1.0)
    taken.close()
    assert taken.exchange.failure is Failure.CONNECTION
    assert b"".join(parts).startswith(b"".join(data for _, data in taken.exchange.pieces))
    assert not taken.keeps_alive


def test_other_codes_announcements_and_rubbish() -> None:
    busy = flight()
    busy.feed(b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nbusy", 1.0)
    assert (busy.exchange.failure, busy.exchange.detail) == (Failure.STATUS, "status 429")
    assert busy.exchange.pieces == [(1.0, b"busy")]
    assert busy.keeps_alive
    early = flight()
    early.feed(b"HTTP/1.1 100 Continue\r\n\r\n", 1.0)
    assert not early.is_complete
    early.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 2.0)
    assert early.is_complete
    assert (early.exchange.status_code, early.exchange.failure) == (200, None)
    rubbish = flight()
    rubbish.feed(b"SSH-2.0-OpenSSH\r\n", 1.0)
    assert rubbish.exchange.failure is Failure.PROTOCOL
    assert not rubbish.keeps_alive


def test_a_connection_that_goes_on_after_the_reply_is_not_used_again() -> None:
    taken = flight()
    taken.feed(chunked([b"a"]) + chunked([b"b"]), 1.0)
    assert taken.is_complete
    assert taken.exchange.failure is None
    assert taken.exchange.pieces == [(1.0, b"a")]
    assert not taken.keeps_alive
