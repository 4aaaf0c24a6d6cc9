"""Data sets read with the `datasets` library: hub ids, parquet and arrow files, saved folders."""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.workload.lengths_csv import REQUIRED_COLUMNS, Line, rows_from_table
from pagedbench.workload.records import read_records
from pagedbench.workload.rows import Reading, TraceError, reason, unknown_name
from pagedbench.workload.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedbench.workload.tokenizer import LoadTokenizer

SHAREGPT_ID = "anon8231489123/ShareGPT_Vicuna_unfiltered"
SHAREGPT_FILE = "ShareGPT_V3_unfiltered_cleaned_split.json"
ALPACA_ID = "tatsu-lab/alpaca"
ALPACA_FILE = "alpaca_data.json"

_TABLE_SUFFIXES = frozenset({".parquet", ".arrow"})
_SAVED_FOLDER_MARKS = ("dataset_info.json", "dataset_dict.json")


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Silence the warnings of the hub's library before each of its retries; its error says enough."""
    from huggingface_hub.utils import logging as hub_logging

    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def is_columnar(path: Path) -> bool:
    """Is this a parquet or arrow file, or a folder written by `save_to_disk`?"""
    if path.is_dir():
        return any((path / mark).is_file() for mark in _SAVED_FOLDER_MARKS)
    return path.suffix in _TABLE_SUFFIXES


def read_columnar(path: Path, load_tokenizer: LoadTokenizer, *, chat: bool = False) -> Reading:
    """The rows of a local data set: ShareGPT or Alpaca records, or our own columns.

    Raises:
        TraceError: it cannot be read, or holds something else.
    """
    try:
        table = _opened(path)
        columns, records = list(table.column_names), table.to_list()
    except TraceError:
        raise
    except Exception as error:  # exceptions of the library and of pyarrow
        raise TraceError(f"cannot read the data set {path}: {reason(error)}") from error
    return _read(columns, records, str(path), load_tokenizer, chat=chat)


def read_hub(name: str, load_tokenizer: LoadTokenizer, *, chat: bool = False) -> Reading:
    """The rows of the split `train` of a data set on the hub.

    Raises:
        TraceError: there is no network or no such data set, or it holds something else.
    """
    table = _from_hub(name, "download it elsewhere and name the file or folder instead")
    return _read(list(table.column_names), table.to_list(), name, load_tokenizer, chat=chat)


def _opened(path: Path) -> Any:
    import datasets

    if path.is_dir():
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, datasets.DatasetDict):
            if "train" not in loaded:
                raise TraceError(
                    f"{path} has no split train, only {', '.join(loaded)}: name a folder in it"
                )
            loaded = loaded["train"]
        return loaded
    if path.suffix == ".arrow":
        return datasets.Dataset.from_file(str(path))
    with tempfile.TemporaryDirectory() as cache:
        return datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)


def _read(
    columns: list[str], records: list[Any], source: str, load_tokenizer: LoadTokenizer, *, chat: bool
) -> Reading:
    if all(name in columns for name in REQUIRED_COLUMNS):
        lines = (
            Line(number, ["" if record[name] is None else str(record[name]) for name in columns])
            for number, record in enumerate(records, start=1)
        )
        return Reading(rows_from_table(columns, lines, source))
    return read_records(records, source, load_tokenizer, chat=chat)


def _from_hub(name: str, advice: str) -> Any:
    import datasets

    try:
        with quiet_hub():
            return datasets.load_dataset(name, split="train")
    except Exception as error:  # network, name, permission: exceptions of several libraries
        raise TraceError(
            f"cannot load {name} from the hub ({reason(error)}): check the name and the network, "
            f"or {advice}"
        ) from error


def fetch(name: str, destination: str | Path) -> Path:
    """Download the real text of `sharegpt` or `alpaca` as a JSON file that can be used as a trace.

    Args:
        destination: a file, or a folder, in which the file keeps the name that it has at its source.

    Returns:
        The file. It appears as a whole or not at all.

    Raises:
        TraceError: an unknown name, no network, or the file cannot be written.
    """
    sources: dict[str, tuple[str, Callable[[Path], None]]] = {
        "sharegpt": (SHAREGPT_FILE, _fetch_sharegpt),
        "alpaca": (ALPACA_FILE, _fetch_alpaca),
    }
    if name not in sources:
        raise unknown_name("data set to fetch", name, sources)
    file_name, download = sources[name]
    target = Path(destination).expanduser()
    if target.is_dir():
        target = target / file_name
    if not target.parent.is_dir():
        raise TraceError(f"cannot write {target}: the folder {target.parent} does not exist")
    download(target)
    return target


def _fetch_sharegpt(target: Path) -> None:
    from huggingface_hub import hf_hub_download

    # Beside the target, so that the finished file is moved and not copied.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        try:
            with quiet_hub():
                file = hf_hub_download(SHAREGPT_ID, SHAREGPT_FILE, repo_type="dataset", local_dir=folder)
            Path(file).replace(target)
        except Exception as error:  # network, permission: exceptions of several libraries
            raise TraceError(
                f"cannot download {SHAREGPT_FILE} ({reason(error)}): check the network, "
                f"or get the file from huggingface.co/datasets/{SHAREGPT_ID} "
                "on another machine and pass it as the trace"
            ) from error


def _fetch_alpaca(target: Path) -> None:
    table = _from_hub(ALPACA_ID, "get alpaca_data.json from github.com/tatsu-lab/stanford_alpaca by hand")
    fields = ("instruction", "input", "output")
    records = [{name: record[name] for name in fields} for record in table]
    write_whole(target, json.dumps(records, ensure_ascii=False, indent=1).encode())
