"""Token ids as the models' own tokenizers give them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import logging as hub_logging

from pagedbench.workload.formats import parse
from pagedbench.workload.rows import TraceError
from pagedbench.workload.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("folder", "ids"),
    [("opt", [2, 31414, 232]), ("gpt2", [15496, 995]), ("llama2", [1, 15043, 3186])],
)
def test_hello_world(test_data: Path, folder, ids):
    path = test_data / "tokenizers" / folder
    assert load_tokenizer(path).encode(["Hello world"]) == [ids]
    if (path / "tokenizer.json").exists():
        assert load_tokenizer(path / "tokenizer.json").encode(["Hello world"]) == [ids]


def test_odd_texts(test_data: Path):
    tokenizer = load_tokenizer(str(test_data / "tokenizers" / "opt"))
    empty, broken, mark = tokenizer.encode(["", "\ud800", "?"])
    assert empty == [2]
    assert broken == mark
    assert tokenizer.encode([]) == []


def test_alpaca_lengths_row_for_row(test_data: Path):
    number = 4000
    with gzip.open(test_data / "alpaca" / "alpaca_data.json.gz", "rt", encoding="utf-8") as file:
        records = json.load(file)
    with gzip.open(test_data / "alpaca" / "alpaca_lengths_opt.csv.gz", "rt") as file:
        expected = [
            (int(line["prompt_tokens"]), int(line["output_tokens"])) for line in csv.DictReader(file)
        ]
    empty = [index for index, record in enumerate(records) if not record["output"]]
    chosen = sorted({*range(0, len(records), len(records) // number), *empty})
    file = io.BufferedReader(io.BytesIO(json.dumps([records[index] for index in chosen]).encode()))
    rows = parse(file, "alpaca", lambda: load_tokenizer(test_data / "tokenizers" / "opt")).rows
    assert [(row.prompt_len, row.output_len) for row in rows] == [expected[index] for index in chosen]
    assert empty
    assert expected[empty[0]][1] == 1


def test_a_stored_tokenizer_neither_cuts_nor_pads(test_data: Path, tmp_path: Path):
    content = json.loads((test_data / "tokenizers" / "llama2" / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert load_tokenizer(tmp_path).encode(["Hello world", ""]) == [[1, 15043, 3186], [1]]


def test_what_cannot_be_loaded(tmp_path: Path):
    with pytest.raises(TraceError, match=r"neither a tokenizer.json nor both"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TraceError, match=r"not a readable tokenizer.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(TraceError, match="are not a BPE vocabulary"):
        load_tokenizer(tmp_path)
    with pytest.raises(TraceError, match="there is no tokenizer at"):
        load_tokenizer("./nowhere")


def test_hub_repositories_with_the_older_pair_of_files(test_data: Path, tmp_path: Path, monkeypatch):
    for file in ("vocab.json", "merges.txt"):
        shutil.copy(test_data / "tokenizers" / "opt" / file, tmp_path)

    def download(name: str, file: str) -> str:
        assert name == "facebook/opt-125m"
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(f"404: no {file}")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert load_tokenizer("facebook/opt-125m").encode(["Hello world"]) == [[2, 31414, 232]]


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("offline"), OSError("no route\nto host")])
def test_no_network_is_said(monkeypatch, error):
    def download(name: str, file: str) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        TraceError, match=r"cannot load the tokenizer facebook/opt-125m .* name a folder"
    ) as caught:
        load_tokenizer("facebook/opt-125m")
    assert "\n" not in str(caught.value)


def test_retries_without_a_network_are_not_reported(monkeypatch, caplog):
    def download(name: str, file: str) -> str:
        hub_logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    before = hub_logging.get_verbosity()
    with pytest.raises(TraceError):
        load_tokenizer("facebook/opt-125m")
    assert not caplog.records
    assert hub_logging.get_verbosity() == before
