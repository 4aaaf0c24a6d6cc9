"""ServedModel: the limits that requests must meet, and the conversion between text and tokens."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.tools.serve.chat import ChatTemplate
from pagedbench.tools.serve.texts import NumberTexts, Texts, TokenizedTexts
from pagedbench.workload.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pagedbench.plan import Plan

EMULATED = "emulated: replies take the time that the cost model predicts, and their tokens are made up"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model as clients see it.

    Attributes:
        names: names that requests may use for it; the first is listed.
        eos_ids: tokens with which the model ends a reply by itself; none for random or emulated models.
        max_model_len: the most tokens of prompt and reply.
        max_num_seqs: the most sequences of one request.
        chat: None: the tokenizer has no template.
    """

    names: tuple[str, ...]
    vocab_size: int
    eos_ids: tuple[int, ...]
    max_model_len: int
    max_num_seqs: int
    seed: int
    texts: Texts
    chat: ChatTemplate | None
    facts: dict[str, str]
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def card(self) -> dict[str, object]:
        """The entry of /v1/models."""
        return {
            "id": self.names[0],
            "object": "model",
            "created": self.created,
            "owned_by": "pagedbench",
            "root": self.names[0],
            "parent": None,
            "max_model_len": self.max_model_len,
            "pagedbench": self.facts,
        }


def served_model(plan: Plan, name: str | None) -> ServedModel:
    """The model of a plan, with the name `name`, or that in `--model`.

    Raises:
        InputError: its tokenizer cannot be read.
    """
    config = plan.config
    assert config.max_model_len is not None, "the configuration is not resolved"
    folder = config.tokenizer or plan.tokenizer
    names = (name,) if name is not None else tuple(dict.fromkeys((config.model, Path(config.model).name)))
    facts = {
        "system": plan.system.name,
        "device": plan.device_name,
        "weights": plan.weights,
        "kernels": plan.kernels,
        "dtype": config.dtype,
    }
    if config.is_simulated:
        facts["emulated"] = EMULATED
    return ServedModel(
        names=names,
        vocab_size=plan.shape.vocab_size,
        eos_ids=_eos_ids(plan),
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_num_seqs,
        seed=config.seed,
        texts=NumberTexts() if folder is None else TokenizedTexts(load_tokenizer(folder)),
        chat=None if folder is None else ChatTemplate.of(folder),
        facts=facts,
    )


def _eos_ids(plan: Plan) -> tuple[int, ...]:
    """The end-of-sequence tokens of a model with real weights; with random ones they mean nothing."""
    if plan.config.is_simulated or plan.config.model in BUILT_IN_SHAPES or "dummy" in plan.weights:
        return ()
    from pagedbench.models.loader import find_folder

    folder = find_folder(plan.config.model, with_weights=False)
    for file in ("generation_config.json", "config.json"):
        try:
            found = json.loads((folder / file).read_text(encoding="utf-8")).get("eos_token_id")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(f"cannot read {folder / file}: {error}") from error
        if found is not None:
            return tuple(found) if isinstance(found, list) else (int(found),)
    return ()
