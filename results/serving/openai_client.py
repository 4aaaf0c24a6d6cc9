"""500 streamed completions by the `openai` client, at random times: the latencies that the client sees.

Runs in a separate environment, which has `openai` and not pagedbench. Writes one row per request, with the
parts of its time to the first token, from its HTTP library: until the request is built, until there is a
connection, until the head of the reply has arrived, and until the program has its first chunk.
"""

import argparse
import asyncio
import csv
import random
import time
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import httpx2
from openai import AsyncOpenAI

EVENTS = ("http11.send_request_headers.started", "http11.receive_response_headers.complete")
moments: ContextVar[dict[str, float]] = ContextVar("moments")
"""Of the request of this task: event -> time."""


async def trace(event: str, _: Any) -> None:
    if event in EVENTS:
        moments.get()[event] = time.perf_counter()


async def begin(request: httpx2.Request) -> None:
    """The request is built; from now on it waits for a connection."""
    moments.get()["built"] = time.perf_counter()
    request.extensions["trace"] = trace


async def ask(client: AsyncOpenAI, model: str, prompt: list[int], length: int) -> list[float]:
    """Milliseconds to the first token, a token afterwards, and the parts of the first."""
    moments.set({})
    start, times = time.perf_counter(), []
    stream = await client.completions.create(
        model=model,
        prompt=prompt,
        max_tokens=length,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    usage = None
    async for chunk in stream:
        if chunk.choices:  # also one whose token has no text yet
            times.append(time.perf_counter())
        usage = chunk.usage or usage
    assert usage is not None, "the stream had no usage"
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), length)
    seen = moments.get()
    ends = [start, seen["built"], *(seen[event] for event in EVENTS), times[0]]
    parts = [1000 * (end - begin) for begin, end in pairwise(ends)]
    return [sum(parts), 1000 * (times[-1] - times[0]) / (length - 1), *parts]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--prompt-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=32)
    parser.add_argument("--output", required=True)
    given = parser.parse_args()
    numbers = random.Random(0)
    http = httpx2.AsyncClient(event_hooks={"request": [begin]}, timeout=600)
    client = AsyncOpenAI(base_url=f"{given.base_url}/v1", api_key="none", max_retries=0, http_client=http)
    start, due, tasks = time.perf_counter(), 0.0, []
    for _ in range(given.number):
        prompt = [numbers.randrange(4, given.vocabulary) for _ in range(given.prompt_len)]
        due += numbers.expovariate(given.rate)
        await asyncio.sleep(max(start + due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(ask(client, given.model, prompt, given.output_len)))
    replies = await asyncio.gather(*tasks)
    with open(given.output, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ttft_ms", "tpot_ms", "build_ms", "connect_ms", "wait_ms", "parse_ms"])
        rows.writerows(replies)


if __name__ == "__main__":
    asyncio.run(main())
