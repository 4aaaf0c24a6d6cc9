"""Server: what is known of a foreign server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.loadgen.protocols.api import Api


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and what it reports about itself.

    Attributes:
        label: its name in tables.
        base_url: its URL, without the path of an API and without any secret.
        product: the program, if it reports one; otherwise the API's name.
        model: the name that requests carry.
        model_source: the folder or file from which it loaded the model, as reported.
        max_model_len: the longest prompt and output; None if not reported.
        kv_slots: tokens in its KV pool; None if not reported.
        openai_path: the prefix of the paths of OpenAI's API.
    """

    label: str
    base_url: str
    api: Api
    product: str
    version: str | None
    model: str
    model_source: str | None = None
    max_model_len: int | None = None
    kv_slots: int | None = None
    openai_path: str = "/v1"

    def __str__(self) -> str:
        name = self.product if self.version is None else f"{self.product} {self.version}"
        return f"{name} at {self.base_url}, API {self.api}"
