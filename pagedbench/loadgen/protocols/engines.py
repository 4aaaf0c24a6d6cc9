"""The APIs of single engines: SGLang, llama.cpp, Text Generation Inference and Ollama."""

from __future__ import annotations

from typing import ClassVar

from pagedbench.loadgen.protocols.api import (
    Api,
    Chunk,
    Document,
    Query,
    ServerProtocol,
    count_of,
    failed_end,
)
from pagedbench.loadgen.protocols.events import Framing


class SgLang(ServerProtocol):
    """SGLang's `POST /generate`: every event has the whole text so far, and the counts."""

    api: ClassVar[Api] = Api.SGLANG
    path: ClassVar[str] = "/generate"
    is_cumulative: ClassVar[bool] = True
    counts_chunks: ClassVar[bool] = True

    def body(self, query: Query) -> Document:
        sampling = query.sampling
        parameters = {
            "max_new_tokens": sampling.max_tokens,
            "ignore_eos": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
        }
        is_text = isinstance(query.prompt, str)
        prompt = {"text": query.prompt} if is_text else {"input_ids": list(query.prompt)}
        return {**prompt, "sampling_params": parameters, "stream": True}

    def chunk(self, document: Document) -> Chunk:
        about = document["meta_info"]
        if (problem := failed_end(about.get("finish_reason"))) is not None:
            return Chunk(error=problem)
        return Chunk(
            text=document.get("text") or "",
            output_len=count_of(about, "completion_tokens"),
            prompt_len=count_of(about, "prompt_tokens"),
            num_cached=count_of(about, "cached_tokens"),
            is_last=about.get("finish_reason") is not None,
        )


class LlamaCpp(ServerProtocol):
    """llama.cpp's `POST /completion`. The request says whether the slot's cache may be used."""

    api: ClassVar[Api] = Api.LLAMACPP
    path: ClassVar[str] = "/completion"
    counts_chunks: ClassVar[bool] = True

    def body(self, query: Query) -> Document:
        sampling = query.sampling
        return {
            "prompt": list(query.prompt) if isinstance(query.prompt, tuple) else query.prompt,
            "n_predict": sampling.max_tokens,
            "ignore_eos": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "cache_prompt": query.caches_prompt,
            "return_tokens": query.wants_token_ids,
            "stream": True,
        }

    def chunk(self, document: Document) -> Chunk:
        is_last = bool(document["stop"])
        ids = document.get("tokens") or None
        prompt_len = count_of(document, "tokens_evaluated")
        return Chunk(
            text=None if is_last and not document["content"] else document["content"],
            brings_tokens=True if is_last else None,  # it repeats the counts
            token_ids=None if ids is None else tuple(map(int, ids)),
            output_len=count_of(document, "tokens_predicted"),
            prompt_len=prompt_len,
            num_cached=_cached(document.get("timings") or {}, prompt_len) if is_last else None,
            is_last=is_last,
        )


def _cached(timings: Document, prompt_len: int | None) -> int | None:
    """Prompt tokens that were not computed. `tokens_cached` counts what the slot holds at the end."""
    if "cache_n" in timings:
        return int(timings["cache_n"])
    num_computed = count_of(timings, "prompt_n")
    return None if num_computed is None or prompt_len is None else prompt_len - num_computed


class Tgi(ServerProtocol):
    """`POST /generate_stream` of Text Generation Inference: one event per token, no forced lengths."""

    api: ClassVar[Api] = Api.TGI
    path: ClassVar[str] = "/generate_stream"
    takes_token_ids: ClassVar[bool] = False
    forces_lengths: ClassVar[bool] = False

    def body(self, query: Query) -> Document:
        sampling = query.sampling
        parameters: Document = {"max_new_tokens": sampling.max_tokens, "details": True}
        if sampling.temperature > 0:
            parameters |= {"do_sample": True, "temperature": sampling.temperature, "seed": sampling.seed}
            parameters |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
            parameters |= {"top_k": sampling.top_k} if sampling.top_k else {}
        return {"inputs": query.prompt, "parameters": parameters}

    def chunk(self, document: Document) -> Chunk:
        token, details = document["token"], document.get("details") or {}
        return Chunk(
            text="" if token.get("special") else token["text"],
            brings_tokens=True,
            token_ids=(int(token["id"]),),
            output_len=count_of(details, "generated_tokens"),
            prompt_len=count_of(details, "input_length"),
            is_last=document.get("generated_text") is not None,
        )


class Ollama(ServerProtocol):
    """Ollama's `POST /api/generate`: lines of JSON, the counts in the last; lengths cannot be forced."""

    api: ClassVar[Api] = Api.OLLAMA
    path: ClassVar[str] = "/api/generate"
    framing: ClassVar[Framing] = Framing.LINES
    takes_token_ids: ClassVar[bool] = False
    forces_lengths: ClassVar[bool] = False

    def body(self, query: Query) -> Document:
        sampling = query.sampling
        options = {
            "num_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
        }
        options |= {} if query.max_len is None else {"num_ctx": query.max_len}
        return {
            "model": query.model,
            "prompt": query.prompt,
            "raw": True,
            "stream": True,
            "options": options,
        }

    def chunk(self, document: Document) -> Chunk:
        text, is_last = document["response"], bool(document["done"])
        return Chunk(
            text=None if is_last and not text else text,
            brings_tokens=bool(text),
            output_len=count_of(document, "eval_count") if is_last else None,
            prompt_len=count_of(document, "prompt_eval_count") if is_last else None,
            is_last=is_last,
        )
