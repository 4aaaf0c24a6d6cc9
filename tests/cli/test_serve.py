"""`pagedbench serve` on the command line: what is refused before anything is loaded, and the exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli.command import Command

EMULATED = ("--model", "opt-125m", "--device", "sim:a100-40gb", "--port", "0")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--rate", "2"), "No such option: --rate"),
        (("--trace", "alpaca"), "No such option: --trace"),
        (("--host", "0.0.0.0"), "set PAGEDBENCH_API_KEY in the environment"),
        (("--host", "no.such.host.invalid", "--port", "1"), "PAGEDBENCH_API_KEY"),
        (("--system", "paged,orca-max"), "serve runs one system"),
        (("--disk-cache", "1GiB", "--prefix-caching"), "--disk-cache has no effect"),
        (("--max-queue", "0"), "--max-queue"),
        (("--grace", "-1"), "--grace"),
        (("--port", "99999"), "--port"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--tokenizer", "/no/such/folder"), "there is no tokenizer at /no/such/folder"),
        (("--kv-slots", "0"), "--kv-slots must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    pagedbench: Command, arguments: tuple[str, ...], sentence: str
) -> None:
    outcome = pagedbench("serve", *EMULATED, *arguments)
    assert outcome.code == 2
    assert sentence in " ".join(outcome.err.split())


def test_an_address_that_is_taken_is_refused(pagedbench: Command) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        outcome = pagedbench("serve", *EMULATED[:-1], port)
    assert (outcome.code, f"cannot listen on 127.0.0.1 port {port}" in outcome.err) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder = tmp_path / "served"
    command = [sys.executable, "-m", "pagedbench", "serve", *EMULATED, "--output", str(folder)]
    environment = {**os.environ, "PAGEDBENCH_API_KEY": "hidden"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        lines, rest = _served_once(server, number)
        assert server.wait(20) == code
    assert rest == f"Wrote {folder}\n"
    assert "hidden" not in "".join(lines) + "".join(
        path.read_text() for path in folder.iterdir() if path.is_file()
    )


def _served_once(server: subprocess.Popen[str], number: signal.Signals) -> tuple[list[str], str]:
    """Ask the server once and send it a signal. Returns what it said before and after."""
    assert server.stdout is not None
    lines = [server.stdout.readline() for _ in range(3)]
    assert "made up" in lines[1]
    url = lines[2].split()[1]
    request = urllib.request.Request(
        f"{url}/completions", b'{"prompt": [5], "max_tokens": 2}', {"Authorization": "Bearer hidden"}
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        assert reply.status == 200
    server.send_signal(number)
    return lines, server.stdout.read()
