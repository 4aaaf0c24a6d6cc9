"""500 streamed completions by the `openai` client, at random times: the latencies that the client sees.

Runs in a separate environment, which has `openai` and not pagedbench. Writes one row per request.
"""

import argparse
import asyncio
import csv
import random
import time

from openai import AsyncOpenAI


async def ask(client: AsyncOpenAI, model: str, prompt: list[int], length: int) -> list[float]:
    """Seconds from the call to each chunk that brought text."""
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
        if chunk.choices and chunk.choices[0].text:
            times.append(time.perf_counter() - start)
        usage = chunk.usage or usage
    assert usage is not None, "the stream had no usage"
    assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), length)
    return times


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
    client = AsyncOpenAI(base_url=f"{given.base_url}/v1", api_key="none", max_retries=0)
    start, due, tasks = time.perf_counter(), 0.0, []
    for _ in range(given.number):
        prompt = [numbers.randrange(4, given.vocabulary) for _ in range(given.prompt_len)]
        due += numbers.expovariate(given.rate)
        await asyncio.sleep(max(start + due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(ask(client, given.model, prompt, given.output_len)))
    replies = await asyncio.gather(*tasks)
    with open(given.output, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ttft_ms", "tpot_ms"])
        for times in replies:
            rows.writerow([1000 * times[0], 1000 * (times[-1] - times[0]) / (given.output_len - 1)])


if __name__ == "__main__":
    asyncio.run(main())
