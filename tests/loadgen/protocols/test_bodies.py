"""What each API is asked, and the bytes of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pagedbench.loadgen.protocols.api import Api, Query
from pagedbench.loadgen.protocols.table import PROTOCOLS, encode
from pagedbench.request import SamplingParams

GREEDY = SamplingParams(7, seed=3)
SAMPLED = SamplingParams(7, temperature=0.5, top_p=0.9, top_k=4, seed=3)


def body(api: Api, sampling: SamplingParams = GREEDY, **more: Any) -> dict[str, object]:
    prompt = (5, 6) if PROTOCOLS[api].takes_token_ids else "five six"
    return PROTOCOLS[api].body(Query("tiny", prompt, sampling, **more))


@pytest.mark.parametrize(
    ("api", "forced"),
    [
        (Api.OPENAI, {"max_tokens": 7, "min_tokens": 7, "ignore_eos": True}),
        (Api.VLLM, {"max_tokens": 7, "ignore_eos": True}),
        (Api.LLAMACPP, {"n_predict": 7, "ignore_eos": True}),
    ],
)
def test_the_length_is_forced(api: Api, forced: dict[str, object]) -> None:
    assert forced.items() <= body(api).items()
    assert PROTOCOLS[api].forces_lengths
    assert ("min_tokens" in body(api)) == (api is Api.OPENAI), "where it is not needed it costs time"


def test_the_others_have_their_parameters_apart() -> None:
    parameters = body(Api.SGLANG)["sampling_params"]
    assert isinstance(parameters, dict)
    assert {"max_new_tokens": 7, "ignore_eos": True}.items() <= parameters.items()
    assert "min_new_tokens" not in parameters
    assert body(Api.SGLANG)["input_ids"] == [5, 6]
    assert body(Api.TGI)["parameters"] == {"max_new_tokens": 7, "details": True}
    assert body(Api.OLLAMA)["raw"] is True
    asked = body(Api.OLLAMA, max_len=4096)["options"]
    assert isinstance(asked, dict)
    assert {"num_predict": 7, "temperature": 0.0, "top_k": 0, "num_ctx": 4096}.items() <= asked.items()


def test_sampling_reaches_the_server() -> None:
    assert {"temperature": 0.5, "top_p": 0.9, "seed": 3, "top_k": 4}.items() <= body(
        Api.VLLM, SAMPLED
    ).items()
    assert "top_k" not in body(Api.OPENAI, SAMPLED), "it is not of OpenAI's API"
    assert body(Api.TGI, SAMPLED)["parameters"] == {
        "max_new_tokens": 7, "details": True, "do_sample": True, "temperature": 0.5, "top_p": 0.9,
        "top_k": 4, "seed": 3,
    }  # fmt: skip


def test_token_ids_and_caches_are_asked_for_where_they_can_be() -> None:
    assert body(Api.VLLM, wants_token_ids=True)["return_token_ids"] is True
    assert "return_token_ids" not in body(Api.VLLM)
    assert body(Api.VLLM, cache_salt="x")["cache_salt"] == "x"
    assert not any("cache_salt" in body(api) for api in Api)
    assert body(Api.LLAMACPP)["cache_prompt"] is False
    assert body(Api.LLAMACPP, caches_prompt=True)["cache_prompt"] is True


def test_a_request_is_whole() -> None:
    content = {"prompt": "caf\u00e9 \ud800"}
    payload = encode("/v1/completions", "host:80", content, {"Authorization": "Bearer x"})
    head, _, sent = payload.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert f"Content-Length: {len(sent)}" in lines
    assert {"Host: host:80", "Authorization: Bearer x"} <= set(lines)
    assert json.loads(sent)["prompt"] == "caf\u00e9 ?"
