"""Real worker processes against real sockets. Replies that must come in time have seconds for it."""

from __future__ import annotations

import gc
import math
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest
from httptools import HttpResponseParser

from loadgen.scripted_server import CLOSE, RESET, SILENCE, ScriptedServer, payload
from pagedbench.errors import ConfigError
from pagedbench.loadgen import generate as module
from pagedbench.loadgen.generate import Generation, generate
from pagedbench.loadgen.job import Job, WorkerReport
from pagedbench.loadgen.known_delays import Delays, known_delays
from pagedbench.loadgen.loop import Loop
from pagedbench.loadgen.target import Reached, Target, reach, target_of
from pagedbench.loadgen.wire import Call, Exchange, Failure

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = [CHUNKED[:20], CHUNKED[20:] + b"3\r\na", b"bc\r\n", b"2\r\nde\r\n0\r\n\r", b"\n"]
SCRIPTS = {
    "good": GOOD,
    "length": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", b"cde"],
    "until-close": [b"HTTP/1.0 200 OK\r\n\r\nabc", b"de", CLOSE],
    "reset": [CHUNKED, b"3\r\nabc\r\n", RESET],
    "cut": [CHUNKED, b"3\r\nabc\r\n", CLOSE],
    "gone": [CLOSE],
    "silent": [CHUNKED, b"3\r\nabc\r\n", SILENCE],
    "busy": [b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n"],
    "rubbish": [b"hello\r\n\r\n"],
}


def run(
    calls: list[Call], reached: Reached, *, timeout: float = 20.0, num_workers: int = 1,
    num_clients: int | None = None, stop: threading.Event | None = None,
) -> tuple[dict[int, Exchange], Generation]:  # fmt: skip
    found: list[Exchange] = []
    generation = generate(
        calls, reached, on_exchange=found.append, timeout=timeout, num_workers=num_workers,
        num_clients=num_clients, stop=stop,
    )  # fmt: skip
    assert sorted(exchange.request_id for exchange in found) == sorted(call.request_id for call in calls)
    return {exchange.request_id: exchange for exchange in found}, generation


def body(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.pieces)


def test_replies_of_all_kinds() -> None:
    server = ScriptedServer(SCRIPTS, pause=0.002)
    names = ["good", "length", "until-close", "reset", "cut", "gone", "busy", "rubbish", "silent", "good"]
    calls = [Call(index, 0.01 * index, payload(name)) for index, name in enumerate(names)]
    with server.serve() as reached:
        found, generation = run(calls, reached, timeout=1.5)
    found[3].pieces.clear()  # a reset may overtake what was sent before it
    outcomes = {name: (found[index].failure, body(found[index])) for index, name in enumerate(names)}
    assert outcomes == {
        "good": (None, b"abcde"),
        "length": (None, b"abcde"),
        "until-close": (None, b"abcde"),
        "reset": (Failure.CONNECTION, b""),
        "cut": (Failure.CONNECTION, b"abc"),
        "gone": (Failure.CONNECTION, b""),
        "busy": (Failure.STATUS, b""),
        "rubbish": (Failure.PROTOCOL, b""),
        "silent": (Failure.TIMEOUT, b"abc"),
    }
    assert found[6].status_code == 429
    assert not generation.problems
    for index, exchange in found.items():
        moments = [exchange.start, exchange.sent, *(time for time, _ in exchange.pieces), exchange.end]
        assert exchange.scheduled == calls[index].due
        assert [exchange.scheduled, *moments] == sorted([exchange.scheduled, *moments])
    assert sorted(server.seen) == sorted(names)


def test_sessions_wait_for_replies_and_end_with_a_failure() -> None:
    calls = [
        Call(0, 0.0, payload("good")), Call(1, 0.0, payload("length"), 0, 0.02),
        Call(2, 0.3, payload("good"), 1), Call(3, 0.0, payload("cut")),
        Call(4, 0.0, payload("good"), 3), Call(5, 0.0, payload("good"), 4),
    ]  # fmt: skip
    with ScriptedServer(SCRIPTS).serve() as reached:
        found, _ = run(calls, reached, num_workers=2)
    assert found[1].scheduled == found[0].end + 0.02
    assert found[2].scheduled == max(0.3, found[1].end)
    assert found[3].failure is Failure.CONNECTION
    assert [found[number].failure for number in (4, 5)] == [Failure.SKIPPED, Failure.SKIPPED]
    assert math.isnan(found[5].start)


def test_a_closed_loop_keeps_connections_and_never_exceeds_its_clients() -> None:
    server = ScriptedServer(SCRIPTS, pause=0.001)
    calls = [Call(index, 0.0, payload("good")) for index in range(30)]
    with server.serve() as reached:
        found, _ = run(calls, reached, num_clients=3, num_workers=2)
    edges = sorted((time, step) for e in found.values() for time, step in ((e.start, 1), (e.end, -1)))
    running = most = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    assert most <= 3
    assert server.num_connections <= 3 + 2 + 1  # one to reach it; one more a worker may be under way
    assert not any(exchange.failure for exchange in found.values())


def test_a_stop_ends_the_run_at_once() -> None:
    stop = threading.Event()
    calls = [Call(0, 0.0, payload("silent")), Call(1, 1000.0, payload("good")), Call(2, 0.0, b"", 0)]
    server = ScriptedServer(SCRIPTS)

    def wait_and_stop() -> None:
        while "silent" not in server.seen:
            threading.Event().wait(0.01)
        stop.set()

    with server.serve() as reached:
        threading.Thread(target=wait_and_stop, daemon=True).start()
        found, generation = run(calls, reached, timeout=2000.0, stop=stop)
    assert generation.was_stopped
    (report,) = generation.workers
    assert 0 < report.cpu_share <= 1
    assert WorkerReport(2.0, 0.5, 1, was_full=False, waited_s=1.5).cpu_share == 0.25
    assert (found[0].failure, found[0].detail) == (Failure.STOPPED, "the run was stopped")
    assert [found[number].failure for number in (1, 2)] == [Failure.SKIPPED, Failure.SKIPPED]


def test_calls_of_a_worker_that_dies_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    start = module._start_worker

    def noting(job: module.Job, spool: IO[bytes]) -> module._Worker:
        worker = start(job, spool)
        processes.append(worker.process)
        return worker

    monkeypatch.setattr(module, "_start_worker", noting)
    server = ScriptedServer(SCRIPTS)
    calls = [Call(0, 0.0, payload("silent")), Call(1, 0.0, payload("good"))]

    def kill() -> None:
        while len(server.seen) < 2:
            threading.Event().wait(0.01)
        os.kill(processes[0].pid, signal.SIGKILL)

    with server.serve() as reached:
        threading.Thread(target=kill, daemon=True).start()
        found, generation = run(calls, reached, num_workers=2)
    assert found[0].failure is Failure.CONNECTION
    assert "exit code -9" in generation.problems[0]
    assert (found[1].failure, body(found[1])) == (None, b"abcde")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the server's certificate")
def test_encrypted_replies(tmp_path: Path) -> None:
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *kind, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    scripts = {**SCRIPTS, "large": [b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)]}
    names = ["good", "large", "cut", "until-close", "good"]
    calls = [Call(index, 0.02 * index, payload(name, bytes(200_000))) for index, name in enumerate(names)]
    with ScriptedServer(scripts, context).serve() as reached:
        found, _ = run(calls, reached)
        with pytest.raises(ConfigError, match="certificate"):
            reach(Target("127.0.0.1", reached.target.port, is_tls=True))
    bodies = [body(found[index]) for index in range(len(calls))]
    assert bodies == [b"abcde", bytes(300_000), b"abc", b"abcde", b"abcde"]
    assert [exchange.failure for exchange in found.values() if exchange.failure] == [Failure.CONNECTION]


def test_nobody_listens_any_more() -> None:
    """However many calls are due at once."""
    with ScriptedServer(SCRIPTS).serve() as reached:
        pass
    times = [0.0] * 2000 + [0.01]
    found, _ = run([Call(index, due, payload("good")) for index, due in enumerate(times)], reached)
    assert {exchange.failure for exchange in found.values()} == {Failure.CONNECTION}
    assert "refused" in found[0].detail


def test_a_worker_without_collections_keeps_no_reply_that_has_ended() -> None:
    """Collections are off in a run: what has ended must be free without them."""
    calls = [Call(index, 0.0, payload("good")) for index in range(50)]
    sizes = []
    gc.collect()
    gc.disable()
    try:
        control, other_end = socket.socketpair()
        with ScriptedServer(SCRIPTS).serve() as reached, control, other_end:
            loop = Loop(
                Job(reached, calls, 20.0, 2), 9, control.fileno(), lambda: True,
                lambda exchange: sizes.append(len(exchange.pieces)), lambda num_left: None,
            )  # fmt: skip
            loop.run(time.monotonic())
        kinds = [type(item) for item in gc.get_objects()]
    finally:
        gc.enable()
    assert (len(sizes), min(sizes) > 0) == (50, True)
    assert (kinds.count(HttpResponseParser), kinds.count(Exchange)) == (0, 0)


def test_known_delays_are_kept_and_large_payloads_arrive() -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    asked = b'{"prompt": "%s", "max_tokens": 3, "known_delays": {"ttft": 0.02, "gap": 0.01}}'
    bodies = [asked % (b"a " * size) for size in (1, 1_000_000)]
    calls = [Call(index, 0.0, head % len(text) + text) for index, text in enumerate(bodies)]
    with known_delays(Delays(5.0, 5.0, 9)) as port:
        found, _ = run(calls, reach(Target("127.0.0.1", port)))
    for exchange in found.values():
        assert exchange.failure is None
        assert body(exchange).count(b'"text":" word"') == 3
        assert body(exchange).endswith(b"data: [DONE]\n\n")
        assert exchange.pieces[0][0] - exchange.start >= 0.02
        assert exchange.end - exchange.start >= 0.04


def test_the_server_of_known_delays_outlives_rubbish() -> None:
    rubbish = [b"x\r\n\r\n", *(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
               for text in (b"[]", b'{"prompt": 3}', b'{"prompt": "a", "stream_options": 3}'))]  # fmt: skip
    with known_delays(Delays(0.0, 0.0, 1)) as port:
        for sent in rubbish:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(sent)
                assert client.recv(12) == b"HTTP/1.1 400"


def test_a_worker_starts_without_heavy_libraries() -> None:
    script = (
        "import sys, pagedbench.loadgen.worker, pagedbench.loadgen.known_delays\n"
        "assert not {'torch', 'pandas', 'numpy', 'transformers', 'asyncio', 'ssl'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_key_is_in_no_argument_and_no_environment_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both can be read in /proc, the arguments by everybody."""
    key = b"sk-very-secret"
    server, stop = ScriptedServer(SCRIPTS), threading.Event()
    seen = []

    def look() -> None:
        while not server.seen:
            threading.Event().wait(0.01)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        seen.extend(
            Path(f"/proc/{child}/{name}").read_bytes()
            for child in children
            for name in ("cmdline", "environ")
        )
        stop.set()

    for name in ("PAGEDBENCH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, key.decode())
    call = Call(0, 0.0, payload("silent").replace(b"Host:", b"Authorization: Bearer " + key + b"\r\nHost:"))
    with server.serve() as reached:
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        run([call], reached, stop=stop)
        thread.join()
    assert seen
    assert not any(key in text for text in seen)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000", Target("localhost", 8000)),
        ("https://h/v1/", Target("h", 443, "/v1", is_tls=True)),
        ("http://[::1]:80/", Target("::1", 80)),
    ],
)
def test_targets(url: str, expected: Target) -> None:
    assert target_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://u:secret@h",
        "http://h/?api_key=secret",
        "http://u:secret@h:99999",
        "http://[secret",
        "secret",
    ],
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_of(url)
    assert "secret" not in str(caught.value)


def test_unreachable_servers_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        reach(Target("127.0.0.1", 1))
    with pytest.raises(ConfigError, match="cannot be found"):
        reach(Target("no-such-host.invalid", 80))
