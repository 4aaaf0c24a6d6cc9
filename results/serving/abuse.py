"""Minutes of mixed abuse of `pagedbench serve`, with one well-behaved client: does anything grow or fail?

    python results/serving/abuse.py --minutes 10 --output abuse.csv

Prints and writes every 10 seconds the server's memory, open files, threads, owned KV slots and connections.
At the end all clients leave; blocks and files must be back, and SIGTERM must end the server with code 0
while a stream is finished. Exits with 1 if something is not as it should be.
"""

import argparse
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

COLUMNS = ["t_s", "rss_mib", "open_files", "threads", "used_slots", "connections", "well_served", "abuses"]


def request(document: object, *, cut: int = 0) -> bytes:
    """A request for a completion, as bytes; the last `cut` are left out."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head.encode() + body)[: -cut or None]


STREAM = {"prompt": [7] * 40, "max_tokens": 400, "stream": True, "ignore_eos": True}


class Abuser(threading.Thread):
    """A thread that does one kind of harm after another."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.port, self.random = port, random.Random(seed)
        self.number, self.is_over = 0, False

    def run(self) -> None:
        kinds = [
            self.wrong,
            self.gone,
            self.slow_reader,
            self.slow_head,
            self.crowd,
            self.large,
            self.noise,
        ]
        while not self.is_over:
            try:
                self.random.choice(kinds)()
            except OSError:
                time.sleep(0.05)
            self.number += 1

    def open(self, payload: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        client.sendall(payload)
        return client

    def wrong(self) -> None:
        """Requests that are refused."""
        for document in (
            b"{",
            {"prompt": [1], "max_tokens": 10**9},
            {"prompt": [1] * 9000},
            {"model": "x"},
        ):
            with self.open(request(document)) as client:
                client.recv(4096)

    def gone(self) -> None:
        """Clients that leave in mid-stream, and in mid-request."""
        with self.open(request(STREAM)) as client:
            client.recv(self.random.randrange(1, 4096))
        with self.open(request(STREAM, cut=self.random.randrange(1, 60))):
            pass

    def slow_reader(self) -> None:
        """A client that takes a few bytes and then nothing."""
        with self.open(request(STREAM | {"return_token_ids": True})) as client:
            client.recv(10)
            time.sleep(self.random.random() * 3)

    def slow_head(self) -> None:
        """Heads and bodies that come byte by byte."""
        with self.open(b"") as client:
            for byte in request(STREAM)[:20]:
                client.send(bytes([byte]))
                time.sleep(0.1)

    def crowd(self) -> None:
        """A hundred connections at once, half of which ask."""
        clients = [
            self.open(request({"prompt": [5], "max_tokens": 1}) if i % 2 else b"") for i in range(100)
        ]
        for client in clients:
            client.close()

    def large(self) -> None:
        """A body of ten megabytes."""
        with self.open(request(b'{"prompt": "' + b"x" * 10_000_000 + b'"}')) as client:
            client.recv(4096)

    def noise(self) -> None:
        """Bytes that are not HTTP."""
        with self.open(self.random.randbytes(2000)) as client:
            client.recv(4096)


class Client(threading.Thread):
    """Sends the same request again and again, and must get the same reply."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.url = f"http://127.0.0.1:{port}/v1/completions"
        self.number, self.is_over, self.error = 0, False, ""

    def run(self) -> None:
        first = None
        while not self.is_over and not self.error:
            try:
                text = self.ask()
            except OSError as error:
                self.error = f"a well-behaved client was not served: {error}"
                return
            first = first or text
            if text != first:
                self.error = "a reply was not the same as before"
            self.number += 1

    def ask(self) -> str:
        document = {"prompt": [1, 9, 33], "max_tokens": 60, "temperature": 0, "ignore_eos": True}
        with urllib.request.urlopen(self.url, json.dumps(document).encode(), timeout=60) as reply:
            return json.load(reply)["choices"][0]["text"]


def metrics(port: int) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def state(pid: int, port: int) -> dict[str, float]:
    """The current state of the server."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    found = metrics(port)
    free = sum(value for name, value in found.items() if 'part="free"' in name)
    total = sum(value for name, value in found.items() if name.startswith("pagedbench:kv_slots"))
    connections = sum(value for name, value in found.items() if name.startswith("pagedbench:connections"))
    return {
        "rss_mib": round(int(fields["VmRSS"].split()[0]) / 1024, 1),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(fields["Threads"]),
        "used_slots": int(total - free),
        "connections": int(connections),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", default="opt-125m")
    parser.add_argument("--device", default="sim:a100-40gb")
    parser.add_argument("--port", type=int, default=8031)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    command = [sys.executable, "-m", "pagedbench", "serve", "--port", str(given.port)]
    command += [
        "--model",
        given.model,
        "--device",
        given.device,
        "--kv-slots",
        "16384",
        "--max-queue",
        "64",
    ]
    server = subprocess.Popen(command)
    url = f"http://127.0.0.1:{given.port}/health"
    while True:
        time.sleep(0.2)
        if server.poll() is not None:
            sys.exit("the server did not start")
        try:
            urllib.request.urlopen(url)
            break
        except OSError:
            continue
    client = Client(given.port)
    abusers = [Abuser(given.port, seed) for seed in range(6)]
    for thread in (client, *abusers):
        thread.start()
    start, rows = time.monotonic(), []
    while (seconds := time.monotonic() - start) < 60 * given.minutes and not client.error:
        time.sleep(10)
        row = {"t_s": round(seconds + 10), **state(server.pid, given.port)}
        row |= {"well_served": client.number, "abuses": sum(abuser.number for abuser in abusers)}
        rows.append(row)
        print(row, flush=True)
    for thread in (client, *abusers):
        thread.is_over = True
    for thread in (client, *abusers):
        thread.join(30)
    time.sleep(12)  # heads that never came are given up after 10 seconds
    last = {"t_s": round(time.monotonic() - start), **state(server.pid, given.port)}
    rows.append({**last, "well_served": client.number, "abuses": rows[-1]["abuses"]})
    print(rows[-1])
    with given.output.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    stream = socket.create_connection(("127.0.0.1", given.port), timeout=60)
    stream.sendall(request({**STREAM, "max_tokens": 100}))
    stream.recv(1)
    server.send_signal(signal.SIGTERM)
    rest = b""
    while part := stream.recv(65536):
        rest += part
    code = server.wait(60)
    third = len(rows) // 3
    before, after = (min(row["rss_mib"] for row in part) for part in (rows[third:-third], rows[-third:]))
    wrong = [
        client.error,
        "blocks are owned" if last["used_slots"] else "",
        "connections are open" if last["connections"] > 1 else "",
        "files are open" if last["open_files"] > 30 else "",
        f"memory grew from {before} to {after} MiB" if after > 1.05 * before else "",
        f"the exit code is {code}" if code else "",
        "the last stream was cut"
        if b"[DONE]" not in rest or b'"finish_reason":"length"' not in rest
        else "",
    ]
    for text in filter(None, wrong):
        print(f"Wrong: {text}.")
    sys.exit(any(wrong))


if __name__ == "__main__":
    main()
