"""Text in and out by a real tokenizer, and chats by its template."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from pagedbench.config import RunConfig
from tools.serve.running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


@pytest.fixture(scope="module")
def server(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("chat") / "stories"
    shutil.copytree(test_data / "models/stories260K/hf", folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE}))
    config = RunConfig(model=str(folder), device="cpu", dtype="float32", kv_slots=2048, warmup=0)
    with running(config) as server:
        yield server


def test_a_prompt_of_text_is_continued(server: Running, test_data: Path) -> None:
    expected = json.loads((test_data / "models/stories260K/expected_greedy.json").read_text())["text"]
    start = "Once upon a time, there was a little girl named Lily."
    document = server.post({"prompt": start, "max_tokens": 60, "temperature": 0})[1]
    assert expected.startswith(start + document["choices"][0]["text"])
    events = server.events({"prompt": start, "max_tokens": 60, "temperature": 0})
    assert "".join(event["choices"][0]["text"] for event in events) == document["choices"][0]["text"]


def test_a_reply_ends_with_the_models_own_end_unless_it_is_ignored(server: Running) -> None:
    """With an end-of-sequence token that the model is sure to emit."""
    asked = {"prompt": [1], "max_tokens": 40, "temperature": 0, "return_token_ids": True}
    ids = server.post(asked | {"ignore_eos": True})[1]["choices"][0]["token_ids"]
    model, end = server.service.model, ids[9]
    object.__setattr__(model, "eos_ids", (end,))
    try:
        (choice,) = server.post(asked)[1]["choices"]
        (whole,) = server.post(asked | {"ignore_eos": True})[1]["choices"]
    finally:
        object.__setattr__(model, "eos_ids", (2,))
    number = ids.index(end) + 1
    assert (choice["token_ids"], choice["finish_reason"], choice["stop_reason"]) == (
        ids[:number],
        "stop",
        None,
    )
    assert (whole["token_ids"], whole["finish_reason"]) == (ids, "length")


def test_chats_follow_the_template(server: Running) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    prompt = "system: Be brief.\nuser: Hi\nassistant:"
    asked = {"max_tokens": 12, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    status, chat = server.post({"messages": messages, **asked}, "/v1/chat/completions")
    (choice,) = chat["choices"]
    assert (status, chat["object"], choice["message"]["role"]) == (200, "chat.completion", "assistant")
    ids = choice["prompt_token_ids"]
    assert server.service.model.chat is not None
    assert server.service.model.chat.tokenizer.decode(ids) == prompt
    plain = server.post({"prompt": ids, **asked})[1]["choices"][0]
    assert (choice["token_ids"], choice["message"]["content"]) == (plain["token_ids"], plain["text"])
    events = server.events({"messages": messages, **asked}, "/v1/chat/completions")
    deltas = [event["choices"][0]["delta"] for event in events]
    assert [delta.get("role") for delta in deltas][:2] == ["assistant", None]
    assert "".join(delta["content"] for delta in deltas) == plain["text"]
    whole = server.post(
        {"messages": messages, "temperature": 0, "ignore_eos": True}, "/v1/chat/completions"
    )
    assert whole[1]["usage"]["total_tokens"] == 512  # all that the context leaves


@pytest.mark.parametrize(
    "messages", [None, [], "hi", [{"content": "x"}], [{"role": "user", "content": [{"type": "image_url"}]}]]
)
def test_chats_that_are_none_are_refused(server: Running, messages: object) -> None:
    status, document = server.post({"messages": messages}, "/v1/chat/completions")
    assert (status, document["error"]["param"]) == (400, "messages")
