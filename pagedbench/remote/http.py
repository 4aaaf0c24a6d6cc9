"""Small questions to a server, such as which program it is; loads go through `loadgen`."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagedbench.loadgen.target import Target

KEY_VARIABLES = ("PAGEDBENCH_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold an API key. It has no option, so that no process list shows it."""

QUESTION_TIMEOUT = 10.0
MAX_ANSWER = 4 * 2**20
OK = 200


def key_headers() -> dict[str, str]:
    """The header with the API key, if the environment has one."""
    keys = [os.environ[name].strip() for name in KEY_VARIABLES if os.environ.get(name, "").strip()]
    return {"Authorization": f"Bearer {keys[0]}"} if keys else {}


def get(target: Target, path: str) -> tuple[int, bytes] | None:
    """Status and body of a GET request; None where nobody answers in HTTP."""
    kind = http.client.HTTPSConnection if target.is_tls else http.client.HTTPConnection
    more: dict[str, Any] = {"context": ssl.create_default_context()} if target.is_tls else {}
    connection = kind(target.host, target.port, timeout=QUESTION_TIMEOUT, **more)
    try:
        connection.request("GET", path, headers=key_headers())
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def get_document(target: Target, path: str) -> dict[str, Any] | None:
    """The JSON object at a path; None where there is none."""
    answer = get(target, path)
    if answer is None or answer[0] != OK:
        return None
    try:
        document = json.loads(answer[1])
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
