"""Finding out a server's program, API and model, by endpoints that only some programs have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.loadgen.protocols.api import Api
from pagedbench.loadgen.server import Server
from pagedbench.loadgen.target import reach, target_of
from pagedbench.remote.http import KEY_VARIABLES, check_key, get, get_document
from pagedbench.remote.options import AUTO
from pagedbench.remote.scraping import pool_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.loadgen.target import Target

OPENAI_PATHS = ("/v1", "/v3")
"""Endings of base URLs that belong to OpenAI's API; the second is that of OpenVINO Model Server."""

VLLM, OURS = "vllm", "pagedbench"
VLLM_LIKE = (VLLM, OURS)
"""The owners of models (`owned_by`) on servers with vLLM's additions to OpenAI's API: vLLM and ours."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Found:
    """What an endpoint revealed."""

    api: Api
    product: str
    version: str | None = None
    model: str | None = None
    max_model_len: int | None = None


def _vllm(document: Document) -> _Found:
    return _Found(Api.VLLM, "vLLM", str(document["version"]))


def _sglang(document: Document) -> _Found:
    return _Found(Api.SGLANG, "SGLang", model=str(document["model_path"]))


def _llamacpp(document: Document) -> _Found:
    settings = document["default_generation_settings"]
    length = settings.get("n_ctx") if isinstance(settings, dict) else None
    build = document.get("build_info")
    return _Found(Api.LLAMACPP, "llama.cpp", build, document.get("model_path"), length)


def _tgi(document: Document) -> _Found:
    model, length = str(document["model_id"]), document.get("max_total_tokens")
    return _Found(Api.TGI, "Text Generation Inference", document.get("version"), model, length)


def _ollama(document: Document) -> _Found:
    models = document["models"]
    return _Found(Api.OLLAMA, "Ollama", model=str(models[0]["name"]) if models else None)


ENDPOINTS: tuple[tuple[str, Callable[[Document], _Found]], ...] = (
    ("/get_model_info", _sglang),
    ("/props", _llamacpp),
    ("/info", _tgi),
    ("/api/tags", _ollama),
    ("/version", _vllm),
)
"""The endpoint by which each program is recognised, and its reader. `/v1/models` is asked in addition."""


def find_server(base_url: str, api: str, model: str | None, label: str | None) -> Server:
    """Find out what a server is.

    Args:
        api: one of `Api`, or `auto`: find it by asking.
        model: the name that requests carry; None: the server's only or first model.
        label: its name in tables; None: the name of the API.

    Raises:
        ConfigError: there is no server, it refuses the key, or its API or model cannot be found out.
    """
    if api not in (AUTO, *Api):
        raise ConfigError(f"--api is one of {', '.join((AUTO, *Api))}, not {api!r}")
    target, openai_path = plain_target(base_url)
    check_key(target)
    reach(target)
    listed = _listed_model(target, openai_path, model)
    found = _found(target, listed, None if api == AUTO else Api(api))
    name = model or (listed or {}).get("id") or found.model
    if not name:
        raise ConfigError("the server does not say which models it has: name one with --served-model")
    scheme = "https" if target.is_tls else "http"
    return Server(
        label=label or (OURS if found.product == OURS else found.api),
        base_url=f"{scheme}://{target.authority}{target.path}",
        api=found.api,
        product=found.product,
        version=found.version,
        model=str(name),
        model_source=_text((listed or {}).get("root")) or found.model,
        max_model_len=_number((listed or {}).get("max_model_len")) or _number(found.max_model_len),
        kv_slots=pool_of(target),
        openai_path=openai_path,
    )


def plain_target(base_url: str) -> tuple[Target, str]:
    """The target of a base URL without the prefix of OpenAI's API, and that prefix.

    Raises:
        ConfigError: it is not a URL.
    """
    target = target_of(base_url)
    end = next((path for path in OPENAI_PATHS if target.path.endswith(path)), None)
    if end is None:
        return target, OPENAI_PATHS[0]
    return replace(target, path=target.path.removesuffix(end)), end


def _listed_model(target: Target, openai_path: str, model: str | None) -> Document | None:
    """The entry of the model in OpenAI's list of models; the first one if `model` is None."""
    path = f"{target.path}{openai_path}/models"
    answer = get(target, path)
    if answer is not None and answer[0] in (401, 403):
        raise ConfigError(
            f"the server needs an API key, or refuses the one it got (status {answer[0]}): put it into the "
            f"environment as {' or '.join(KEY_VARIABLES)}"
        )
    data = (get_document(target, path) or {}).get("data")
    entries = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    named = [item for item in entries if item.get("id") == model]
    if model is not None and entries and not named:
        known = ", ".join(str(item.get("id")) for item in entries[:5])
        raise ConfigError(f"the server has no model {model!r}: it has {known}; see --served-model")
    chosen = named or entries
    return chosen[0] if chosen else None


def _found(target: Target, listed: Document | None, api: Api | None) -> _Found:
    """The API by what an endpoint says; an API that the user named needs no proof."""
    owner = str((listed or {}).get("owned_by") or "")
    for path, meaning in ENDPOINTS:
        if meaning is _vllm and owner != VLLM:
            continue  # other programs also have a version
        document = get_document(target, f"{target.path}{path}")
        if document is None:
            continue
        try:
            found = meaning(document)
        except (KeyError, TypeError, IndexError, AttributeError):
            continue
        if api in (None, found.api):
            return found
    if api is not None:
        return _Found(api, owner or str(api))
    if listed is None:
        raise ConfigError(
            f"--base-url: {target.authority} does not say which API it has: name it with --api "
            f"({', '.join(Api)})"
        )
    return _Found(Api.VLLM if owner in VLLM_LIKE else Api.OPENAI, owner or str(Api.OPENAI))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
