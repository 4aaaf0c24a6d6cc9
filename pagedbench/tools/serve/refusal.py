"""Refusal: why a request gets no reply, as OpenAI's error document."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}
"""The `type` of an error by its status code; 400's for others below 500."""


@dataclass
class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        message: one sentence for the client.
        param: the field of the request that is wrong.
        code: a word for programs, such as "model_not_found".
        headers: of the reply, beside the usual ones.
        closes: the connection is of no more use, because the rest of the request was not read.
    """

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False

    @property
    def document(self) -> dict[str, object]:
        """The body of the reply."""
        kind = KINDS.get(self.status, KINDS[400])
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
