"""ChatTemplate: the messages of a chat as a prompt in the format that the model was trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagedbench.tools.serve.refusal import Refusal


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The template of a tokenizer's folder, applied by transformers."""

    tokenizer: Any  # of transformers

    @classmethod
    def of(cls, folder: str) -> ChatTemplate | None:
        """The template of a folder; None: it has none."""
        if not _has_template(Path(folder).expanduser()):
            return None
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True))

    def encode(self, messages: list[dict[str, Any]]) -> list[int]:
        """The token ids of the prompt that asks for the next reply.

        Raises:
            Refusal: the template does not accept these messages.
        """
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever the template raises
            raise Refusal(
                400,
                f"the chat template does not accept these messages: {' '.join(str(error).split())}",
                "messages",
            ) from error
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        fields = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and bool(fields.get("chat_template"))
