"""What clients ask and get: the model's own tokens, in OpenAI's documents; and every refusal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from models.folders import hugging_face_beams, hugging_face_greedy
from pagedbench.config import RunConfig
from tools.serve.running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPT = [5, 9, 7, 30, 2, 11]


@pytest.fixture(scope="module")
def server(model_folders: dict[str, Path]) -> Iterator[Running]:
    config = RunConfig(
        model=str(model_folders["llama"]), device="cpu", dtype="float32", kv_slots=1024, warmup=1
    )
    with running(config) as server:
        yield server


def greedy(**fields: Any) -> dict[str, Any]:
    return {"prompt": PROMPT, "temperature": 0, "ignore_eos": True, "return_token_ids": True, **fields}


def test_replies_are_the_models_own_whoever_asks_at_the_same_time(
    server: Running, model_folders: dict[str, Path]
) -> None:
    prompts = [[3 + i, 40, 7 + 2 * i] for i in range(6)]
    found: dict[int, list[int]] = {}

    def ask(i: int) -> None:
        document = greedy(prompt=prompts[i], max_tokens=12)
        if i % 2:
            events = server.events(document)
            found[i] = [token for event in events for token in event["choices"][0]["token_ids"]]
        else:
            found[i] = server.post(document)[1]["choices"][0]["token_ids"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == hugging_face_greedy(model_folders["llama"], prompts, [12] * 6)


def test_a_whole_reply(server: Running) -> None:
    status, document = server.post(greedy(max_tokens=4, model="tiny"))
    (choice,) = document["choices"]
    assert (status, document["object"], document["model"]) == (200, "text_completion", "tiny")
    assert choice["text"] == "".join(f"{token} " for token in choice["token_ids"])
    assert (choice["index"], choice["finish_reason"], choice["stop_reason"]) == (0, "length", None)
    assert choice["prompt_token_ids"] == PROMPT
    assert document["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def test_a_stream_says_the_same_in_chunks(server: Running) -> None:
    whole = server.post(greedy(max_tokens=5))[1]
    *events, usage = server.events(greedy(max_tokens=5, stream_options={"include_usage": True}))
    choices = [event["choices"][0] for event in events]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in choices][-1] == "length"
    assert {choice["finish_reason"] for choice in choices[:-1]} <= {None}
    others = [None] * (len(choices) - 1)  # as many as the reader took one by one, perhaps none
    assert [choice.get("prompt_token_ids") for choice in choices] == [PROMPT, *others]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert len({event["id"] for event in [*events, usage]}) == 1


def test_stop_tokens_and_texts_end_a_reply_and_are_not_part_of_it(server: Running) -> None:
    ids = server.post(greedy(max_tokens=12))[1]["choices"][0]["token_ids"]
    stop = next(token for i, token in enumerate(ids) if i >= 3 and token not in ids[:i])
    before = ids[: ids.index(stop)]
    by_token = server.post(greedy(max_tokens=12, stop_token_ids=[stop]))[1]
    by_text = server.post(greedy(max_tokens=12, stop=f"{stop} "))[1]
    for document, reason in ((by_token, stop), (by_text, f"{stop} ")):
        (choice,) = document["choices"]
        assert choice["text"] == "".join(f"{token} " for token in before)
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", reason)
        assert choice["token_ids"] == [*before, stop]
        assert document["usage"]["completion_tokens"] == len(before) + 1


def test_a_seed_gives_the_same_samples_again(server: Running) -> None:
    sampled = {"prompt": [PROMPT, PROMPT], "temperature": 3.0, "max_tokens": 8, "n": 2, "ignore_eos": True}

    def texts(**fields: Any) -> list[str]:
        return [choice["text"] for choice in server.post(sampled | fields)[1]["choices"]]

    first = texts(seed=5)
    assert first == texts(seed=5)
    assert len(set(first)) == 4  # two prompts, of which each has two samples
    assert first != texts(seed=-6)
    assert texts() != texts()
    best = texts(seed=5, n=1, best_of=2)
    assert set(best) <= set(first)


def test_beam_search_is_hugging_faces(server: Running, model_folders: dict[str, Path]) -> None:
    document = greedy(max_tokens=6, n=3, use_beam_search=True)
    found = [choice["token_ids"] for choice in server.post(document)[1]["choices"]]
    (beams,) = hugging_face_beams(model_folders["llama"], [PROMPT], [6], 3)
    assert found == [list(token_ids) for token_ids, _ in beams]


def test_logprobs_are_of_the_chosen_tokens(server: Running) -> None:
    whole = server.post(greedy(max_tokens=5, logprobs=1))[1]["choices"][0]["logprobs"]
    assert len(whole["token_logprobs"]) == 5
    assert all(value < 0 for value in whole["token_logprobs"])
    parts = [event["choices"][0]["logprobs"] for event in server.events(greedy(max_tokens=5, logprobs=1))]
    streamed = [value for item in parts for value in item["token_logprobs"]]
    assert streamed == pytest.approx(whole["token_logprobs"])
    by_id = server.post(greedy(max_tokens=1, logprobs=0, return_tokens_as_token_ids=True))[1]
    (choice,) = by_id["choices"]
    assert choice["logprobs"]["tokens"] == [f"token_id:{choice['token_ids'][0]}"]


@pytest.mark.parametrize(
    ("document", "status", "param"),
    [
        (b"{", 400, None),
        (b"[1]", 400, None),
        (b"[" * 100_000, 400, None),
        (b"\xff\xfe{}", 400, None),
        ({"max_tokens": 4}, 400, "prompt"),
        ({"prompt": "text"}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": [[1], []]}, 400, "prompt"),
        ({"prompt": [-1]}, 400, "prompt"),
        ({"prompt": [10**30]}, 400, "prompt"),
        ({"prompt": [True]}, 400, "prompt"),
        ({"prompt": [[1]] * 65}, 400, "prompt"),
        ({"prompt": [1] * 4000}, 400, "prompt"),
        ({"model": "gpt", "prompt": [1]}, 404, "model"),
        ({"prompt": [1], "max_tokens": 10**9}, 400, "max_tokens"),
        ({"prompt": [1], "max_tokens": 0}, 400, "max_tokens"),
        ({"prompt": [1], "max_tokens": 1.5}, 400, "max_tokens"),
        ({"prompt": [1], "temperature": -1}, 400, "temperature"),
        ({"prompt": [1], "temperature": "hot"}, 400, "temperature"),
        (b'{"prompt": [1], "temperature": NaN}', 400, "temperature"),
        ({"prompt": [1], "top_p": 0}, 400, "top_p"),
        ({"prompt": [1], "n": 2, "temperature": 0}, 400, "n"),
        ({"prompt": [1], "n": 10**6}, 400, "n"),
        ({"prompt": [1], "n": 3, "best_of": 2}, 400, "best_of"),
        ({"prompt": [1], "best_of": 2, "stream": True}, 400, "stream"),
        ({"prompt": [1], "use_beam_search": True, "temperature": 1, "n": 2}, 400, "temperature"),
        ({"prompt": [1], "stop": [""]}, 400, "stop"),
        ({"prompt": [1], "stop": ["x"] * 17}, 400, "stop"),
        ({"prompt": [1], "stop_token_ids": [10**6]}, 400, "stop_token_ids"),
        ({"prompt": [1], "stop_token_ids": [2] * 65}, 400, "stop_token_ids"),
        ({"prompt": [1], "temperature": 10**401}, 400, "temperature"),
        ({"prompt": [1], "stream_options": 3}, 400, "stream_options"),
        ({"prompt": [1], "stop_token_ids": [2], "min_tokens": 2}, 400, "min_tokens"),
        ({"prompt": [1], "logprobs": 5}, 400, "logprobs"),
        ({"prompt": [1], "echo": True}, 400, "echo"),
        ({"prompt": [1], "logit_bias": {"3": 1}}, 400, "logit_bias"),
        ({"prompt": [1], "max_tokns": 3}, 400, "max_tokns"),
        ({"prompt": [1], "stream_options": {"x": 1}}, 400, "x"),
        ({"prompt": [1] * 30, "n": 100, "max_tokens": 30}, 400, None),  # more than the pool
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_form(
    server: Running, document: Any, status: int, param: str | None
) -> None:
    code, reply = server.post(document)
    assert code == status
    assert set(reply["error"]) == {"message", "type", "param", "code"}
    assert reply["error"]["param"] == param
    assert len(reply["error"]["message"]) < 300


def test_other_paths(server: Running) -> None:
    assert server.get("/health") == (200, "")
    assert server.post({"messages": [{"role": "user", "content": "hi"}]}, "/v1/chat/completions")[0] == 400
    assert server.get("/v1/models")[1].count('"id":"tiny"') == 1
    assert server.get("/v1/models/tiny")[0] == 200
    assert server.get("/v1/models/other")[0] == 404
    assert server.get("/nothing")[0] == 404
    assert server.get("/v1/completions")[0] == 405


def test_metrics_count_what_was_served(server: Running) -> None:
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total")
    before = [server.metric(name) for name in names]
    server.post(greedy(max_tokens=7))
    assert [server.metric(name) for name in names] == [before[0] + 6, before[1] + 7, before[2] + 1]
    server.post(greedy(max_tokens=40, stop=" "))
    reasons = [f'vllm:request_success_total{{finished_reason="{reason}"' for reason in ("stop", "length")]
    latency = "vllm:e2e_request_latency_seconds_count"
    server.wait_until(lambda: server.metric(latency) == sum(map(server.metric, reasons)))
    server.wait_until(lambda: server.metric(names[2]) == before[2] + 2)
    assert server.metric("pagedbench:kv_slots") == server.engine.memory.num_slots
    counts = [server.metric(f"vllm:{name}_count") for name in ("time_to_first_token_seconds",)]
    assert counts == [server.metric('vllm:time_to_first_token_seconds_bucket{le="+Inf"')]
    assert server.metric("vllm:num_requests_running") == server.metric("vllm:kv_cache_usage_perc") == 0
