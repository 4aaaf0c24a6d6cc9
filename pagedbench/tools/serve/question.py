"""Question: a client's checked and tokenized request, from the body of a completion or of a chat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.request import SamplingParams
from pagedbench.tools.serve.fields import Fields, shown, token_ids
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from pagedbench.tools.serve.served_model import ServedModel

DEFAULT_MAX_TOKENS = 16
"""The same as OpenAI's for completions."""

MAX_PROMPTS, MAX_STOPS, MAX_STOP_LEN = 64, 16, 256
"""The most prompts and stop strings of one request, and the most characters of a stop string."""

MAX_STOP_TOKENS = 64
"""The most tokens that end a reply: the engine searches them for each token."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "repetition_penalty": (1, 1.0),
    "length_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "logit_bias": ({},),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "add_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "early_stopping": (False,),
    "prompt_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
"""Fields that are not implemented, and the values with which they have no effect."""

IGNORED = frozenset(
    {"user", "metadata", "store", "request_id", "priority", "service_tier", "parallel_tool_calls",
     "safety_identifier", "prompt_cache_key"}
)  # fmt: skip
"""Fields that do not change the tokens of a reply."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request of a client.

    Attributes:
        prompts: the token ids of each prompt.
        samplings: one per prompt.
        num_returned: replies to each prompt, the best of `width` sequences.
        stop: texts that end a reply and are not part of it.
        num_logprobs: None: no log-probabilities are wanted.
    """

    prompts: tuple[tuple[int, ...], ...]
    samplings: tuple[SamplingParams, ...]
    num_returned: int
    stop: tuple[str, ...]
    is_chat: bool
    streams: bool
    includes_usage: bool
    has_running_usage: bool
    returns_token_ids: bool
    names_tokens_by_id: bool
    num_logprobs: int | None

    @property
    def width(self) -> int:
        """Sequences per prompt."""
        return self.samplings[0].width

    @property
    def is_decided_late(self) -> bool:
        """Is it known only at the end which sequences are returned?"""
        return self.samplings[0].beam_width is not None or self.width > self.num_returned


def completion(document: Any, model: ServedModel) -> Question:
    """The question in the body of /v1/completions.

    Raises:
        Refusal: it cannot be answered.
    """
    fields = Fields(document)
    _check_model(fields, model)
    prompts = _prompts(fields.take("prompt"), model)
    default = DEFAULT_MAX_TOKENS
    max_tokens = fields.integer("max_tokens", default, 1)
    return _question(fields, model, prompts, max_tokens, fields.optional("logprobs"))


def chat(document: Any, model: ServedModel) -> Question:
    """The question in the body of /v1/chat/completions.

    Raises:
        Refusal: it cannot be answered.
    """
    if model.chat is None:
        raise Refusal(400, "this model has no chat template: ask /v1/completions", "messages")
    fields = Fields(document)
    _check_model(fields, model)
    prompts = (tuple(model.chat.encode(_messages(fields.take("messages")))),)
    room = max(model.max_model_len - len(prompts[0]), 1)
    max_tokens = fields.integer("max_tokens", room, 1)
    max_tokens = fields.integer("max_completion_tokens", max_tokens, 1)
    wants_logprobs = fields.switch("logprobs")
    number = fields.optional("top_logprobs") or 0
    question = _question(fields, model, prompts, max_tokens, number if wants_logprobs else None)
    return replace(question, is_chat=True)


def _check_model(fields: Fields, model: ServedModel) -> None:
    name = fields.take("model", model.names[0])
    if name not in model.names:
        raise Refusal(
            404,
            f"there is no model {shown(name)}: this server has {model.names[0]}",
            "model",
            "model_not_found",
        )


def _messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise Refusal(400, "messages must be a list of objects with role and content", "messages")
    if not all(isinstance(item.get("role"), str) for item in value):
        raise Refusal(400, "each of messages must have a role", "messages")
    return [item | {"content": _content(item.get("content"))} for item in value]


def _content(value: Any) -> str:
    """The text of a message, which may consist of parts."""
    parts = [{"text": value}] if isinstance(value, str) else value
    is_list = isinstance(parts, list) and all(isinstance(part, dict) for part in parts)
    if not is_list or not all(isinstance(part.get("text"), str) for part in parts):
        raise Refusal(
            400, "the content of a message must be a text, or a list of parts of text", "messages"
        )
    return "".join(part["text"] for part in parts)


def _prompts(value: Any, model: ServedModel) -> tuple[tuple[int, ...], ...]:
    """One prompt or several, each a text or token ids."""
    if value is None:
        raise Refusal(
            400, "prompt is missing: give a text, a list of token ids, or a list of either", "prompt"
        )
    is_list = isinstance(value, list) and bool(value) and isinstance(value[0], list | str)
    prompts = value if is_list else [value]
    if len(prompts) > MAX_PROMPTS:
        raise Refusal(400, f"a request may have {MAX_PROMPTS} prompts, not {len(prompts)}", "prompt")
    found = tuple(
        tuple(model.texts.encode(item))
        if isinstance(item, str)
        else token_ids(item, "prompt", model.vocab_size)
        for item in prompts
    )
    if not all(found):
        raise Refusal(400, "prompt is empty: give at least one token", "prompt")
    return found


def _question(
    fields: Fields,
    model: ServedModel,
    prompts: tuple[tuple[int, ...], ...],
    max_tokens: int,
    num_logprobs: int | None,
) -> Question:
    """The rest of the fields, which completions and chats have in common."""
    _check_length(max(map(len, prompts)), max_tokens, model)
    if num_logprobs is not None and num_logprobs > 1:
        raise Refusal(400, "only chosen tokens have log-probabilities: ask for 0 or 1", "logprobs")
    num_returned = fields.integer("n", 1, 1, model.max_num_seqs)
    stop = fields.texts("stop")
    if len(stop) > MAX_STOPS or any(len(text) > MAX_STOP_LEN for text in stop):
        raise Refusal(400, f"stop may have {MAX_STOPS} texts of {MAX_STOP_LEN} characters each", "stop")
    sampling = _sampling(fields, model, max_tokens, num_returned, num_logprobs)
    streams = fields.switch("stream")
    options = Fields(fields.take("stream_options", {}), "stream_options")
    includes_usage = options.switch("include_usage")
    has_running_usage = options.switch("continuous_usage_stats")
    options.finish(frozenset({"include_obfuscation"}))
    seed = fields.optional("seed", least=-(2**63))
    samplings = [sampling] * len(prompts)
    if seed is not None:
        samplings = [replace(sampling, seed=seed % 2**64, random_id=i) for i in range(len(prompts))]
    question = Question(
        prompts=prompts,
        samplings=tuple(samplings),
        num_returned=num_returned,
        stop=stop,
        is_chat=False,
        streams=streams,
        includes_usage=streams and includes_usage,
        has_running_usage=streams and has_running_usage,
        returns_token_ids=fields.switch("return_token_ids"),
        names_tokens_by_id=fields.switch("return_tokens_as_token_ids"),
        num_logprobs=num_logprobs,
    )
    fields.refuse_unless(NEUTRAL)
    fields.finish(IGNORED)
    if question.streams and question.is_decided_late:
        raise Refusal(400, "stream is not possible with best_of above n, or with beam search", "stream")
    if num_logprobs is not None and question.is_decided_late:
        raise Refusal(400, "logprobs are impossible with best_of above n, or with beam search", "logprobs")
    if stop and sampling.beam_width is not None:
        raise Refusal(400, "stop has no effect on beam search, which runs to max_tokens", "stop")
    return question


def _check_length(prompt_len: int, max_tokens: int, model: ServedModel) -> None:
    total = prompt_len + max_tokens
    if total > model.max_model_len:
        raise Refusal(
            400,
            f"this model's maximum context length is {model.max_model_len} tokens; you asked for {total} "
            f"({prompt_len} in the prompt, {max_tokens} in the reply)",
            "prompt" if prompt_len >= model.max_model_len else "max_tokens",
            "context_length_exceeded",
        )


def _sampling(
    fields: Fields, model: ServedModel, max_tokens: int, num_returned: int, num_logprobs: int | None
) -> SamplingParams:
    """How the replies are decoded."""
    width = fields.integer("best_of", num_returned, num_returned, model.max_num_seqs)
    is_search = fields.switch("use_beam_search")
    temperature = fields.number("temperature", 0.0 if is_search else 1.0, 0.0)
    top_p = fields.number("top_p", 1.0, 0.0, 1.0)
    top_k = max(fields.integer("top_k", 0, -1), 0)
    stop_ids = fields.ids("stop_token_ids", model.vocab_size)
    if len(stop_ids) > MAX_STOP_TOKENS:
        raise Refusal(400, f"stop_token_ids may have {MAX_STOP_TOKENS} tokens", "stop_token_ids")
    if not fields.switch("ignore_eos"):
        stop_ids = (*stop_ids, *model.eos_ids)
    if fields.integer("min_tokens", 0, 0, max_tokens) and stop_ids:
        raise Refusal(
            400,
            "min_tokens is not implemented if a token may end the reply: send ignore_eos",
            "min_tokens",
        )
    if is_search:
        if temperature > 0:
            raise Refusal(400, "beam search does not sample: send temperature 0", "temperature")
        if stop_ids:
            raise Refusal(
                400,
                "beam search runs to max_tokens: send ignore_eos, and no stop_token_ids",
                "use_beam_search",
            )
        if width > model.vocab_size:
            raise Refusal(400, f"beams begin with different tokens: there are {model.vocab_size}", "n")
        return SamplingParams(max_tokens, beam_width=width)
    if width > 1 and temperature == 0:
        raise Refusal(400, "n and best_of need a temperature above 0: greedy replies are all equal", "n")
    if top_p == 0:
        raise Refusal(400, "top_p must be above 0", "top_p")
    return SamplingParams(
        max_tokens,
        n=width,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=model.seed,
        stop_token_ids=stop_ids,
        logprobs=num_logprobs is not None or width > num_returned,
    )
