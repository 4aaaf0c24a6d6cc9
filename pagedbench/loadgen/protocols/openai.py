"""OpenAI's completions, as many servers have them, and with vLLM's additions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pagedbench.loadgen.protocols.api import (
    Api,
    Chunk,
    Document,
    Query,
    ServerProtocol,
    count_of,
    failed_end,
)

if TYPE_CHECKING:
    from pagedbench.request import SamplingParams


class OpenAi(ServerProtocol):
    """`POST /v1/completions` of any server. Prompts are text, because not all servers take token ids.

    OpenAI has neither `ignore_eos` nor `min_tokens`, but most servers know one of them, or ignore both.
    """

    api: ClassVar[Api] = Api.OPENAI
    path: ClassVar[str] = "/v1/completions"
    takes_token_ids: ClassVar[bool] = False

    def body(self, query: Query) -> Document:
        return {
            "model": query.model,
            "prompt": list(query.prompt) if isinstance(query.prompt, tuple) else query.prompt,
            "max_tokens": query.sampling.max_tokens,
            "min_tokens": query.sampling.max_tokens,
            "ignore_eos": True,
            **_decoding(query.sampling),
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def chunk(self, document: Document) -> Chunk:
        usage = document.get("usage") or {}
        counts = Chunk(
            output_len=count_of(usage, "completion_tokens"),
            prompt_len=count_of(usage, "prompt_tokens"),
            num_cached=count_of(usage.get("prompt_tokens_details") or {}, "cached_tokens"),
        )
        if not document["choices"]:
            return counts
        choice = document["choices"][0]
        if (problem := failed_end(choice.get("finish_reason"))) is not None:
            return Chunk(error=problem)
        text = (choice["delta"].get("content") if "delta" in choice else choice.get("text")) or ""
        ids = choice.get("token_ids")
        return replace(
            counts,
            text=text,
            brings_tokens=None if ids is None else bool(ids),
            token_ids=None if ids is None else tuple(map(int, ids)),
            is_last=choice.get("finish_reason") is not None,
        )


class Vllm(OpenAi):
    """vLLM, and servers with its additions: token ids both ways, and counts with every chunk."""

    api: ClassVar[Api] = Api.VLLM
    takes_token_ids: ClassVar[bool] = True
    counts_chunks: ClassVar[bool] = True

    def body(self, query: Query) -> Document:
        body = super().body(query)
        del body["min_tokens"]  # it would make the sampler mask tokens; `ignore_eos` is enough
        if query.cache_salt is not None:
            body["cache_salt"] = query.cache_salt
        body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        body["top_k"] = query.sampling.top_k or -1  # without it, the model's own default would apply
        if query.wants_token_ids:
            body["return_token_ids"] = True
        return body


def _decoding(sampling: SamplingParams) -> Document:
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
