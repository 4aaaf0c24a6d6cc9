"""Refusal: the reason why a request gets no reply, as OpenAI's error document."""

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
"""Status code -> the `type` of the error; other codes below 500 have that of 400."""


@dataclass
class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status code.
        message: one sentence for the client.
        param: the wrong field of the request.
        code: a word for programs, such as "model_not_found".
        headers: headers of the reply in addition to the usual ones.
        closes: the connection has to be closed, because the rest of the request was not read.
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
