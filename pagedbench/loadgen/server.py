"""Server: what is known of a server that is not of this program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.loadgen.protocols.api import Api


@dataclass(frozen=True, slots=True)
class Server:
    """A server that has been asked what it is.

    Attributes:
        label: what it is called in tables.
        base_url: without the path of an API, and without any secret.
        product: the program, where it says so; otherwise the API's name.
        model: the name that requests carry.
        model_source: the folder or file that it says the model came from.
        max_model_len: the longest prompt and output; None where it does not say.
        kv_slots: tokens in its KV pool; None where it does not say.
        openai_path: what the paths of OpenAI's API begin with.
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
