"""Clients who are slow, gone, too many or too loud: blocks come back, and other streams do not notice."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.config import ConfigError, RunConfig
from pagedbench.request import Status
from pagedbench.runs.saved import load_run
from pagedbench.systems import SYSTEMS
from pagedbench.tools.serve import connection, exchange
from pagedbench.tools.serve import server as server_module
from pagedbench.tools.serve.command import Access, _check_access
from pagedbench.tools.serve.saving import save
from pagedbench.tools.serve.server import open_socket
from pagedbench.tools.serve.service import Served
from tools.serve.running import PATIENCE, Running, payload, read_reply, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Samples

# The emulated server has no model, and steps that a test decides.
CONFIG = RunConfig(model="opt-125m", device="sim:a100-40gb", kv_slots=4096, max_num_seqs=8)


@pytest.fixture
def server() -> Iterator[Running]:
    with running(CONFIG) as server:
        yield server


class Gated:
    """An executor that runs an iteration when the test says so."""

    def __init__(self, server: Running) -> None:
        self._executor = server.engine.executor
        self._permits = threading.Semaphore(0)
        self._is_open = False
        self.num_begun = 0
        server.engine.executor = self

    def execute(self, batch: Batch) -> Samples:
        self.num_begun += 1
        assert self._is_open or self._permits.acquire(timeout=PATIENCE)
        return self._executor.execute(batch)

    def run(self, number: int = 1) -> None:
        """Let so many iterations run."""
        self._permits.release(number)

    def open(self) -> None:
        """Let all run."""
        self._is_open = True
        self._permits.release()


def long(**fields: Any) -> dict[str, Any]:
    return {"prompt": [7] * 40, "max_tokens": 400, **fields}


def read_until_done(client: socket.socket) -> bytes:
    """A whole stream."""
    reply = b""
    while not reply.endswith(b"0\r\n\r\n"):
        part = client.recv(65536)
        assert part, "closed in mid-reply"
        reply += part
    return reply


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_goes_away_frees_its_blocks_within_one_iteration(
    server: Running, streams: bool
) -> None:
    gate, memory = Gated(server), server.engine.memory
    with server.connection(payload(long(stream=streams))) as client:
        server.wait_until(lambda: memory.num_owned)
        gate.run(3)
        if streams:
            server.wait_until(lambda: b"data: " in client.recv(65536, socket.MSG_PEEK))
        server.wait_until(lambda: gate.num_begun == 4)
    server.wait_until(lambda: not thread_of(server).num_unfinished)
    before = server.engine.recorder.num_tokens
    assert memory.num_owned > 0  # the iteration that is under way
    gate.run()
    server.wait_until(lambda: memory.num_owned == 0)
    assert server.engine.recorder.num_tokens <= before + 1
    gate.open()
    server.wait_until(lambda: server.metric('vllm:request_success_total{finished_reason="abort"') == 1)


def thread_of(server: Running) -> Any:
    thread = server.service.thread
    assert thread is not None
    return thread


def test_a_reader_who_reads_nothing_holds_up_nobody_and_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "STALL_SECONDS", 2.0)
    monkeypatch.setattr(server_module, "WATCH_SECONDS", 0.05)
    prompts = [[7] * 100] * 20
    slow = {"prompt": prompts, "max_tokens": 100, "stream": True, "return_token_ids": True}
    with (
        running(CONFIG, send_buffer=4096) as server,
        server.connection(payload(slow), receive_buffer=2048) as client,
    ):
        server.wait_until(lambda: server.engine.recorder.num_arrived == len(prompts))
        assert server.events({"prompt": [9], "max_tokens": 20})
        server.wait_until(lambda: server.engine.memory.num_owned == 0)
        server.wait_until(lambda: server.metric("pagedbench:connections") == 1)  # the one that asks
        assert b"[DONE]" not in read_reply(client)


def test_heads_and_bodies_that_do_not_come(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: here\r\n"
    for sent, status in (
        (b"", 408),
        (head, 408),
        (head + b"content-length: 90\r\n\r\n{", 408),
        (head + b"x: " + b"y" * connection.MAX_HEAD + b"\r\n", 431),
        (b"hello\r\n\r\n", 400),
        (head + b"content-length: -1\r\n\r\n", 400),
    ):
        is_late = status == 408
        monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1 if is_late else PATIENCE)
        monkeypatch.setattr(exchange, "BODY_SECONDS", 0.1 if is_late else PATIENCE)
        with server.connection(sent) as client:
            reply = read_reply(client)
        head_of_reply, _, body = reply.partition(b"\r\n\r\n")
        assert head_of_reply.startswith(f"HTTP/1.1 {status} ".encode()), sent[:80]
        assert set(json.loads(body)) == {"error"}


def test_a_body_of_ten_megabytes_is_refused_and_the_connection_goes_on(server: Running) -> None:
    status, document = server.post(b'{"prompt": "' + b"x" * 10 * 2**20 + b'"}')
    assert (status, document["error"]["type"]) == (413, "invalid_request_error")
    assert server.post(long(max_tokens=3))[0] == 200


def test_a_full_queue_answers_429_and_says_when_to_come_again() -> None:
    with running(CONFIG, max_queue=3) as server, ExitStack() as stack:
        gate = Gated(server)
        for number in range(1, 12):  # 8 run, 3 wait
            stack.enter_context(server.connection(payload(long(max_tokens=20))))
            server.wait_until(lambda number=number: thread_of(server).num_unfinished >= number)
            gate.run()
            server.wait_until(lambda number=number: thread_of(server).num_pending <= max(number - 8, 0))
        status, text, reply = server._ask("POST", "/v1/completions", json.dumps(long()).encode(), None)
        error = json.loads(text)["error"]
        assert (status, error["code"], error["type"]) == (429, "queue_full", "rate_limit_error")
        assert reply.getheader("retry-after") == "1"
        gate.open()
        server.wait_until(lambda: not thread_of(server).num_unfinished)


def test_hundreds_of_connections_at_once(server: Running) -> None:
    """All are answered, and no file stays open."""
    num_files = len(os.listdir("/proc/self/fd"))
    request = payload({"prompt": [5, 6], "max_tokens": 2})
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connection(request)) for _ in range(300)]
        statuses = {client.recv(65536)[:15] for client in clients}
    assert statuses == {b"HTTP/1.1 200 OK"}
    server.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= num_files)
    assert thread_of(server).num_unfinished == 0


def test_the_key_is_needed_below_v1_and_nowhere_shown(capfd: pytest.CaptureFixture[str]) -> None:
    key = "secret-of-this-test"
    with running(CONFIG, api_key=key) as server:
        document = {"prompt": [5], "max_tokens": 1}
        wrong = ("", f"Bearer {key}x", f"Basic {key}", key)
        for headers in ({}, *({"Authorization": value} for value in wrong)):
            status, reply = server.post(document, headers=headers)
            assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        assert server.post(document, headers={"Authorization": f"Bearer {key}"})[0] == 200
        assert server.get("/v1/models")[0] == 401
        assert (server.get("/health")[0], server.get("/metrics")[0]) == (200, 200)
        assert key not in server.get("/metrics")[1]
    assert key not in "".join(capfd.readouterr())


def test_a_stop_lets_replies_end_and_accepts_no_others() -> None:
    with running(CONFIG) as server, ExitStack() as stack:
        gate = Gated(server)
        stream = stack.enter_context(server.connection(payload(long(max_tokens=9, stream=True))))
        late = stack.enter_context(server.connection(payload(long())[:-5]))
        server.wait_until(lambda: server.engine.scheduler.running)
        server.stop()
        server.wait_until(lambda: not can_connect(server))
        late.sendall(payload(long())[-5:])
        assert read_reply(late).startswith(b"HTTP/1.1 503 ")
        gate.open()
        reply = read_reply(stream)
        assert reply.count(b'"finish_reason":"length"') == 1
        assert reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert server.join().is_interrupted is False


def can_connect(server: Running) -> bool:
    try:
        with server.connection():
            return True
    except OSError:
        return False


def test_after_the_grace_period_streams_end_with_an_error() -> None:
    with running(CONFIG, grace=0.05) as server:
        gate = Gated(server)
        with server.connection(payload(long(stream=True))) as client:
            gate.run(2)
            server.wait_until(lambda: b"data: " in client.recv(65536, socket.MSG_PEEK))
            server.stop()
            reply = read_reply(client)
        assert b'"type":"service_unavailable_error"' in reply
        assert reply.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        gate.open()


def test_a_crash_of_the_engine_is_told_to_everybody_and_ends_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "WATCH_SECONDS", 0.05)
    server = Running(CONFIG)
    gate = Gated(server)
    with server.connection(payload(long())) as client:
        server.wait_until(lambda: server.engine.scheduler.running)
        monkeypatch.setattr(gate, "_executor", None)
        gate.open()
        assert b"500 Internal Server Error" in client.recv(65536)
    crash = server.join().crash
    assert crash is not None
    assert "NoneType" in crash


def test_what_was_served_becomes_a_run_folder(tmp_path: Path) -> None:
    with running(CONFIG, is_kept=True) as server:
        for _ in range(3):
            server.post(long(max_tokens=5))
        with server.connection(payload(long(stream=True, max_tokens=1900))) as client:
            client.recv(100)
        server.wait_until(lambda: not thread_of(server).num_unfinished)
        server.stop()
        served = server.join()
    assert served.record is not None
    folder = tmp_path / "served"
    assert str(folder) in save(served, folder, force=False)
    statuses = [item.status for item in served.record.requests]
    assert statuses == [Status.FINISHED] * 3 + [Status.ABORTED]
    run = load_run(folder)
    assert run.status == "complete"
    reversed_record = replace(served.record, requests=served.record.requests[::-1])
    save(replace(served, record=reversed_record), tmp_path / "again", force=False)
    files = [path / "requests.csv" for path in (folder, tmp_path / "again")]
    assert files[0].read_text() == files[1].read_text()  # in the order of arrival


def test_without_output_nothing_is_kept_of_a_request(server: Running) -> None:
    for _ in range(5):
        server.post(long(max_tokens=5))
    server.stop()
    record = server.join().record
    assert record is not None
    assert (len(record.requests), len(record.steps), record.num_arrived) == (0, 0, 5)


def test_in_a_closed_batch_a_stream_may_end_before_the_others() -> None:
    """A stop text, all tokens, or a client who goes away after its last one: the batch goes on."""
    config = replace(CONFIG, system="fastertransformer", kv_slots=16384)
    with running(config) as server, ExitStack() as stack:
        gate = Gated(server)
        first = stack.enter_context(server.connection(payload(long(max_tokens=1, stream=True))))
        server.wait_until(lambda: server.engine.scheduler.running)
        requests = (
            long(max_tokens=3, stream=True),
            long(stop_token_ids=[*range(40, 104)], stream=True),
            long(max_tokens=9),
        )
        clients = [stack.enter_context(server.connection(payload(document))) for document in requests]
        server.wait_until(lambda: thread_of(server).num_pending == len(requests))
        gate.run(6)
        server.wait_until(lambda: b'"finish_reason":"' in clients[1].recv(65536, socket.MSG_PEEK))
        clients[0].close()
        gate.open()
        server.wait_until(lambda: b'"completion_tokens":9' in clients[2].recv(65536, socket.MSG_PEEK))
        assert read_until_done(clients[1]).count(b'"finish_reason":"stop"') == 1
        assert read_until_done(first).count(b'"finish_reason":"length"') == 1


def test_an_engine_that_does_not_stop_leaves_nothing(server: Running, tmp_path: Path) -> None:
    served = Served(server.service.plan, None, "", "", None, None)
    assert "did not stop within 60 s" in save(served, tmp_path / "served", force=False)
    assert not list(tmp_path.iterdir())


def test_an_address_is_taken_once() -> None:
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            open_socket("127.0.0.1", port)


@pytest.mark.parametrize("grace", [math.inf, math.nan])
def test_a_grace_period_has_an_end(grace: float) -> None:
    with pytest.raises(ConfigError, match="--grace"):
        _check_access(Access("127.0.0.1", 0, None, 1, grace))


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_serves(system: str) -> None:
    with running(replace(CONFIG, system=system, kv_slots=16384)) as server, ExitStack() as stack:
        request = payload(long(max_tokens=30, stream=True, stream_options={"include_usage": True}))
        clients = [stack.enter_context(server.connection(request)) for _ in range(6)]
        clients[0].close()
        for client in clients[1:]:
            assert b'"completion_tokens":30' in read_until_done(client)
