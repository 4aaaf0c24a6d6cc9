"""Connections: slow readers stay, idle and pipelining ones go, and bodies do not fill the memory."""

from __future__ import annotations

import json
import resource
import socket
from contextlib import ExitStack, suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.tools.serve import answer, connection, exchange
from pagedbench.tools.serve.connection import STALL_SECONDS, Reader
from tools.serve.running import Running, payload, read_reply, running
from tools.serve.test_abuse import CONFIG, Gated, long, thread_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CROWD = 1000


@pytest.fixture
def server() -> Iterator[Running]:
    with running(CONFIG) as server:
        yield server


def test_only_a_reader_who_takes_nothing_has_stalled() -> None:
    """Neither one who has just come, nor one who is slower than what is written."""
    start = 1e6  # the clock of an event loop does not begin at zero
    reader = Reader(start)
    assert not reader.has_stalled(65536, start + 1)
    for second in range(2, 500):
        assert not reader.has_stalled(65536 + second % 2, start + second)
    assert not reader.has_stalled(9, start + 500)
    assert not reader.has_stalled(9, start + 500 + STALL_SECONDS)
    assert reader.has_stalled(9, start + 501 + STALL_SECONDS)
    assert not reader.has_stalled(0, start + 502 + STALL_SECONDS)


def test_a_second_request_in_a_reply_ends_the_connection_and_the_reply(server: Running) -> None:
    gate = Gated(server)
    with server.connection(payload(long(stream=True))) as client:
        gate.run(2)
        server.wait_until(lambda: b"data: " in client.recv(65536, socket.MSG_PEEK))
        client.sendall(payload(long()))
        server.wait_until(lambda: not thread_of(server).num_unfinished)
    gate.open()
    server.wait_until(lambda: server.engine.memory.num_owned == 0)


@pytest.mark.parametrize("sent", [b"hello\r\n\r\n", b"POST /v1/completions"])
def test_rubbish_in_the_midst_of_a_reply_is_not_answered_there(
    server: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.01)
    gate = Gated(server)
    with server.connection(payload(long(stream=True))) as client:
        gate.run(2)
        server.wait_until(lambda: b"data: " in client.recv(65536, socket.MSG_PEEK))
        client.sendall(sent)
        server.wait_until(lambda: not thread_of(server).num_unfinished)
        with suppress(ConnectionResetError):
            assert read_reply(client).count(b"HTTP/1.1") == 1
    gate.open()


@pytest.mark.parametrize(
    "sent", [b"GET /health HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\ncontent-length: 9000000\r\n\r\nx"]
)
def test_a_connection_that_has_been_answered_does_not_stay_for_ever(
    server: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connection, "LATE_BODY_SECONDS", 0.1)
    with server.connection(sent) as client:
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
        client.sendall(b"\r\n")
        with suppress(ConnectionResetError):
            assert len(read_reply(client)) < 1000


def test_a_body_is_refused_for_a_wrong_key_only_when_it_has_been_read() -> None:
    document = long(prompt=[7] * 500_000)
    with running(CONFIG, api_key="right") as server:
        for _ in range(3):
            assert server.post(document, headers={"Authorization": "Bearer wrong"})[0] == 401


def test_bodies_share_a_limit_and_give_it_back(monkeypatch: pytest.MonkeyPatch, server: Running) -> None:
    monkeypatch.setattr(exchange, "MAX_BODIES", 200)
    for _ in range(3):
        assert server.post(long(max_tokens=2))[0] == 200
    with server.connection(payload(long())[:-5]) as client:
        server.wait_until(lambda: server.post(long(max_tokens=2))[0] == 503)
        client.close()
        server.wait_until(lambda: server.post(long(max_tokens=2))[0] == 200)


def test_more_prompts_than_the_queue_holds_are_served_when_nothing_waits() -> None:
    with running(CONFIG, max_queue=1) as server:
        status, document = server.post({"prompt": [[7], [8], [9]], "max_tokens": 2})
    assert (status, len(document["choices"])) == (200, 3)


def test_a_fault_of_ours_is_told_in_openais_form_and_on_stderr(
    server: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(answer, "Documents", fail)
    status, reply = server.post(long())
    assert (status, reply["error"]["type"]) == (500, "server_error")
    assert "ZeroDivisionError: by zero" in capfd.readouterr().err


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2 * CROWD + 200, reason="too few open files allowed"
)
def test_a_thousand_clients_at_once_are_all_served(server: Running) -> None:
    """They connect before any of them asks, and ask before any of them reads."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connection()) for _ in range(CROWD)]
        server.wait_until(lambda: server.metric("pagedbench:connections") >= CROWD)
        for number, client in enumerate(clients):
            client.sendall(payload({"prompt": [5] * (1 + number % 7), "max_tokens": 2, "ignore_eos": True}))
        for number, client in enumerate(clients):
            reply = HTTPResponse(client)
            reply.begin()
            found = json.loads(reply.read())
            assert reply.status == 200, found
            assert found["usage"]["prompt_tokens"] == 1 + number % 7
            assert found["usage"]["completion_tokens"] == 2
    server.wait_until(lambda: server.metric("pagedbench:connections") < 5)
