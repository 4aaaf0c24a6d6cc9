"""The prompts of a trace in a server's form: token ids, or text that the tokenizer decodes from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, shape_for_simulation
from pagedbench.workload.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pagedbench.loadgen.server import Server
    from pagedbench.prompt import Prompt
    from pagedbench.simulation.shapes import ModelShape
    from pagedbench.workload.tokenizer import FastTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes prompts in the form that a server takes.

    Attributes:
        vocab_size: size of the vocabulary of the server's model.
        tokenizer: decodes token ids to text; None: the server takes the ids.
    """

    vocab_size: int
    tokenizer: FastTokenizer | None

    def write(self, prompt: Prompt) -> tuple[int, ...] | str:
        ids: list[int] = prompt.ids(self.vocab_size).tolist()
        return tuple(ids) if self.tokenizer is None else self.tokenizer.decode(ids, has_special=True)


def shape_of_server(server: Server, model: str | None) -> ModelShape:
    """The dimensions of the server's model; its vocabulary and its length are used.

    Args:
        model: a built-in shape, or a folder with its config.json; None: the path that the server reports.

    Raises:
        ConfigError: its config is not found.
    """
    said = () if model not in (None, server.model) else (server.model_source, server.model)
    for known in (model, *said):
        if known in BUILT_IN_SHAPES or (known and (Path(known).expanduser() / "config.json").is_file()):
            return shape_for_simulation(known)
    raise ConfigError(
        f"the vocabulary of {model or server.model} is not known here: name the server's model with "
        "--model, a local folder with its config.json, or a built-in shape"
    )


def tokenizer_folder(server: Server, model: str | None) -> str | None:
    """The folder of the model's tokenizer, if it is on this machine."""
    for name in (model, server.model_source, server.model):
        folder = Path(name).expanduser() if name else Path()
        if name and any((folder / file).is_file() for file in TOKENIZER_FILES):
            return str(folder)
    return None


def prompt_writer(
    server: Server, vocab_size: int, tokenizer: str | None, *, takes_token_ids: bool
) -> PromptWriter:
    """How prompts are written for a server.

    Args:
        tokenizer: file or folder.

    Raises:
        InputError: the server takes text, and there is no tokenizer for it.
    """
    if takes_token_ids:
        return PromptWriter(vocab_size, None)
    if tokenizer is None:
        raise ConfigError(
            f"the API {server.api} takes text: name the model's tokenizer with --tokenizer, or its folder "
            "with --model"
        )
    return PromptWriter(vocab_size, load_tokenizer(tokenizer))
