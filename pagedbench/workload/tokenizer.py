"""Tokenizers: text to token ids with the `tokenizers` library, which imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pagedbench.workload.hub import quiet_hub
from pagedbench.workload.rows import TraceError, reason

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OPT_BOS_ID = 2
"""OPT begins every text with `</s>`, although its vocabulary also has an `<s>`."""

_OPT_VOCABULARY = {"<s>": 0, "<pad>": 1, "</s>": OPT_BOS_ID, "<unk>": 3}


class TextTokenizer(Protocol):
    """Turns texts into token ids, which begin with the special tokens that the model expects."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...


LoadTokenizer: TypeAlias = Callable[[], TextTokenizer]
"""Loads the tokenizer when it is needed: most traces hold lengths, and need none."""


class FastTokenizer:
    """A tokenizer of the `tokenizers` library, without truncation and padding."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        # JSON may contain half of a surrogate pair, which the library refuses.
        whole = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(whole)]

    def decode(self, ids: Sequence[int], *, has_special: bool = False) -> str:
        """The text of token ids, with special tokens or without."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not has_special)
        return text


def load_tokenizer(name: str | Path) -> FastTokenizer:
    """Load a tokenizer from a file, a folder or the hub.

    Args:
        name: a `tokenizer.json`; a folder with one, or with `vocab.json` and `merges.txt`
            (byte-level BPE of GPT-2 or OPT, recognised by the vocabulary); or a hub id.

    Raises:
        TraceError: there is no such tokenizer, or it cannot be read.
    """
    check_name(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_folder(path)
    return _from_json(path) if path.is_file() else _from_hub(str(name))


def check_name(name: str | Path) -> None:
    """Check that such a tokenizer may exist, by its name alone.

    Raises:
        TraceError: it is neither a file, nor a folder, nor a hub id.
    """
    if not Path(name).expanduser().exists() and not _is_hub_id(str(name)):
        raise TraceError(f"there is no tokenizer at {name}: name a tokenizer.json, its folder, or a hub id")


def _is_hub_id(name: str) -> bool:
    return not name.startswith(("/", ".", "~")) and name.count("/") <= 1 and not name.endswith(".json")


def _from_folder(folder: Path) -> FastTokenizer:
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder / "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_vocabulary(folder / "vocab.json", folder / "merges.txt")
    raise TraceError(f"{folder} holds neither a tokenizer.json nor both vocab.json and merges.txt")


def _from_json(path: Path) -> FastTokenizer:
    from tokenizers import Tokenizer

    try:
        return FastTokenizer(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises bare Exception
        raise TraceError(f"{path} is not a readable tokenizer.json: {reason(error)}") from error


def _from_vocabulary(vocabulary: Path, merges: Path) -> FastTokenizer:
    """A tokenizer of byte-level BPE; OPT's puts a BOS token before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    try:
        ids = json.loads(vocabulary.read_text(encoding="utf-8"))
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:  # the library raises bare Exception
        raise TraceError(f"{vocabulary} and {merges} are not a BPE vocabulary: {reason(error)}") from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if all(ids.get(token) == token_id for token, token_id in _OPT_VOCABULARY.items()):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="</s> $A", special_tokens=[("</s>", OPT_BOS_ID)]
        )
    return FastTokenizer(tokenizer)


def _from_hub(name: str) -> FastTokenizer:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def download(file: str) -> Path:
        with quiet_hub():
            return Path(hf_hub_download(name, file))

    try:
        try:
            return _from_json(download("tokenizer.json"))
        except LocalEntryNotFoundError:
            raise  # the hub was not reached, so it is unknown whether it has the file
        except EntryNotFoundError:  # OPT's repositories have the older pair of files
            return _from_vocabulary(download("vocab.json"), download("merges.txt"))
    except TraceError:
        raise
    except Exception as error:  # network, name, permission: exceptions of several libraries
        raise TraceError(
            f"cannot load the tokenizer {name} from the hub ({reason(error)}): check the name and the "
            "network, or name a folder with tokenizer.json, or with vocab.json and merges.txt"
        ) from error
