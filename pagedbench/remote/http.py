"""Single requests to a server, such as which program it is; loads are sent by `loadgen`."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import ssl
from typing import TYPE_CHECKING, Any

from pagedbench.errors import ConfigError

if TYPE_CHECKING:
    from pagedbench.loadgen.target import Target

OWN_KEY, OPENAI_KEY = KEY_VARIABLES = ("PAGEDBENCH_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold an API key. There is no option, as process lists would show it."""

QUESTION_TIMEOUT = 10.0
MAX_ANSWER = 4 * 2**20
OK = 200
HIDDEN = "[key]"
LEAST_HIDDEN = 4
"""Fewest characters of a key that are removed at the end of a text that was cut off."""


def api_key() -> str | None:
    """The key in the environment, if there is one."""
    keys = [os.environ[name].strip() for name in KEY_VARIABLES if os.environ.get(name, "").strip()]
    return keys[0] if keys else None


def key_headers() -> dict[str, str]:
    """The header with the API key, if the environment has one."""
    key = api_key()
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def check_key(target: Target) -> None:
    """Refuse to send OpenAI's key, which many environments have, unencrypted to another machine.

    Raises:
        ConfigError: it would be sent.
    """
    is_own = bool(os.environ.get(OWN_KEY, "").strip())
    if api_key() is None or is_own or target.is_tls or _is_this_machine(target.host):
        return
    raise ConfigError(
        f"{OPENAI_KEY} would be sent to {target.host} unencrypted: unset it, or put the key of that server "
        f"into {OWN_KEY}"
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_key(text: str) -> str:
    """A server's text without the key, which servers may repeat; the text may be cut off within the key."""
    key = api_key()
    if key is None:
        return text
    text = text.replace(key, HIDDEN)
    lengths = range(len(key) - 1, LEAST_HIDDEN - 1, -1)
    cut = next((number for number in lengths if text.endswith(key[:number])), 0)
    return text[: len(text) - cut] + HIDDEN if cut else text


def get(target: Target, path: str, method: str = "GET") -> tuple[int, bytes] | None:
    """Status and body of the reply to a request without a body; None if there is no HTTP reply."""
    kind = http.client.HTTPSConnection if target.is_tls else http.client.HTTPConnection
    more: dict[str, Any] = {"context": ssl.create_default_context()} if target.is_tls else {}
    connection = kind(target.host, target.port, timeout=QUESTION_TIMEOUT, **more)
    try:
        connection.request(method, path, headers=key_headers())
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def get_document(target: Target, path: str) -> dict[str, Any] | None:
    """The JSON object at a path; None if there is none."""
    answer = get(target, path)
    if answer is None or answer[0] != OK:
        return None
    try:
        document = json.loads(answer[1])
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
