"""Streams as the servers of each API send them: 4 tokens, the last with a character of several bytes."""

from __future__ import annotations

import json

from pagedbench.loadgen.protocols.api import Api

PROMPT_LEN = 5
TEXT = "ab c\u20ac"
WORDS = ("a", "b", " c", "\u20ac")


def _events(*documents: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(document, ensure_ascii=False)}\n\n" for document in documents]
    return "".join([": keep-alive\n\n", *lines, "data: [DONE]\n\n" if done else ""]).encode()


def _choice(text: str, finish_reason: str | None = None, **more: object) -> dict[str, object]:
    return {"index": 0, "text": text, "finish_reason": finish_reason, **more}


def _openai() -> bytes:
    """Without text first and last; the counts come alone at the end."""
    usage = {"prompt_tokens": PROMPT_LEN, "completion_tokens": 4, "total_tokens": 9}
    return _events(
        {"choices": [_choice("")]},
        *({"choices": [_choice(word)], "usage": None} for word in WORDS),
        {"choices": [_choice("", "length")]},
        {"choices": [], "usage": usage | {"prompt_tokens_details": {"cached_tokens": 3}}},
    )


def _vllm() -> bytes:
    """Half a character is a token without text, and the counts come with every chunk."""

    def usage(number: int) -> dict[str, object]:
        return {"prompt_tokens": PROMPT_LEN, "completion_tokens": number}

    return _events(
        {"choices": [_choice("ab", token_ids=[7, 8])], "usage": usage(2)},
        {"choices": [_choice("", token_ids=[9])], "usage": usage(3)},
        {"choices": [_choice(" c\u20ac", "length", token_ids=[10])], "usage": usage(4)},
        {"choices": [], "usage": usage(4)},
    )


def _sglang() -> bytes:
    def about(number: int, reason: object = None) -> dict[str, object]:
        counts = {"prompt_tokens": PROMPT_LEN, "completion_tokens": number, "cached_tokens": 3}
        return {"id": "x", "finish_reason": reason, **counts}

    return _events(
        {"text": "a", "meta_info": about(1)},
        {"text": "ab c", "meta_info": about(3)},
        {"text": TEXT, "meta_info": about(4, {"type": "length", "length": 4})},
    )


def _llamacpp() -> bytes:
    counts = {"tokens_evaluated": PROMPT_LEN}
    timings = {"prompt_n": 2, "prompt_ms": 1.5, "predicted_n": 4}
    return _events(
        *(
            {"content": word, "tokens": [number], "stop": False, "tokens_predicted": number, **counts}
            for number, word in enumerate(WORDS, start=1)
        ),
        {"content": "", "tokens": [], "stop": True, "tokens_predicted": 4, "timings": timings, **counts},
        done=False,
    )


def _tgi() -> bytes:
    details = {"finish_reason": "length", "generated_tokens": 4, "input_length": PROMPT_LEN}
    return _events(
        *(
            {
                "token": {"id": number, "text": word, "logprob": -1.0, "special": False},
                "generated_text": TEXT if number == 4 else None,
                "details": details if number == 4 else None,
            }
            for number, word in enumerate(WORDS, start=1)
        ),
        done=False,
    )


def _ollama() -> bytes:
    counts = {"prompt_eval_count": PROMPT_LEN, "eval_count": 4, "eval_duration": 1_000_000}
    lines = [{"response": word, "done": False} for word in WORDS]
    lines.append({"response": "", "done": True, "done_reason": "length", **counts})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


STREAMS = {
    Api.OPENAI: _openai(),
    Api.VLLM: _vllm(),
    Api.SGLANG: _sglang(),
    Api.LLAMACPP: _llamacpp(),
    Api.TGI: _tgi(),
    Api.OLLAMA: _ollama(),
}
CHUNKS = {Api.VLLM: [2, 1, 1], Api.SGLANG: [1, 2, 1], Api.LLAMACPP: [1, 1, 1, 1], Api.TGI: [1, 1, 1, 1]}
"""Tokens of each chunk, where the stream says so."""
CACHED = {Api.OPENAI: 3, Api.SGLANG: 3, Api.LLAMACPP: 3}
IDS = {Api.VLLM: (7, 8, 9, 10), Api.LLAMACPP: (1, 2, 3, 4), Api.TGI: (1, 2, 3, 4)}
