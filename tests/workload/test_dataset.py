"""What stands behind the name of a trace, and what is said when nothing does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from pagedbench.workload.dataset import MeanLengths, load_dataset
from pagedbench.workload.hub import fetch
from pagedbench.workload.rows import Row, TraceError

ALPACA = [{"instruction": "Say", "input": "hi", "output": "Hello world"}] * 2
SHAREGPT = [
    {"id": "1", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": ""}]}
]


@pytest.mark.parametrize(
    ("name", "means"),
    [("sharegpt", MeanLengths(161.31, 337.99)), ("alpaca", MeanLengths(19.31, 58.45)), ("synthetic", None)],
)
def test_bundled_names(name, means):
    data = load_dataset(name)
    assert len(data.rows) == 20_000
    assert (data.name, data.synthetic, data.is_text) == (name, True, False)
    assert data.paper_means == means
    assert data.source.startswith("sampled; ")


def test_a_local_file(tmp_path: Path):
    (tmp_path / "mine.csv").write_text("prompt_len,output_len\n3,4\n")
    data = load_dataset(tmp_path / "mine.csv")
    assert (data.name, data.rows, data.synthetic) == ("mine.csv", (Row(3, 4),), False)
    assert data.source == "lengths of mine.csv"
    assert data.means == MeanLengths(3.0, 4.0)


def test_text_needs_a_tokenizer(tmp_path: Path, test_data: Path):
    (tmp_path / "alpaca.json").write_text(json.dumps(ALPACA))
    with pytest.raises(TraceError, match=r"alpaca.json holds text: name with --tokenizer"):
        load_dataset(tmp_path / "alpaca.json")
    data = load_dataset(tmp_path / "alpaca.json", test_data / "tokenizers" / "opt")
    assert data.is_text
    assert [row.output_len for row in data.rows] == [3, 3]
    assert data.rows[0].token_ids[0] == 2


def test_a_tokenizer_is_not_loaded_for_lengths(tmp_path: Path):
    (tmp_path / "mine.csv").write_text("prompt_len,output_len\n3,4\n")
    assert load_dataset(tmp_path / "mine.csv", tokenizer="./nowhere").rows == (Row(3, 4),)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "sharegtp",
            r"unknown trace 'sharegtp': did you mean sharegpt or sharegpt-8k\? there is sharegpt, alpaca, ",
        ),
        ("missing.csv", "trace file 'missing.csv' does not exist"),
        ("folder/missing.json", "does not exist"),
        ("./a", "does not exist"),
        ("a/b/c", "does not exist"),
        ("", "holds no .json or .json.gz file: name a trace file in it"),
        ("x" * 999, "unknown trace"),
        ("a\0b", "unknown trace"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(TraceError, match=message):
        load_dataset(name)


def test_columnar_files_and_saved_folders(tmp_path: Path, test_data: Path):
    tokenizer = test_data / "tokenizers" / "opt"
    table = datasets.Dataset.from_list(ALPACA)
    table.to_parquet(tmp_path / "alpaca.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=table).save_to_disk(tmp_path / "splits")
    datasets.DatasetDict(test=table).save_to_disk(tmp_path / "no_train")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    expected = load_dataset(tmp_path / "alpaca.parquet", tokenizer).rows
    assert [row.output_len for row in expected] == [3, 3]
    for path in (tmp_path / "saved", tmp_path / "splits", arrow):
        assert load_dataset(path, tokenizer).rows == expected
    with pytest.raises(TraceError, match="no split train, only test"):
        load_dataset(tmp_path / "no_train", tokenizer)


def test_columnar_conversations_and_lengths(tmp_path: Path, test_data: Path):
    datasets.Dataset.from_list(SHAREGPT).to_parquet(tmp_path / "sharegpt.parquet")
    rows = load_dataset(tmp_path / "sharegpt.parquet", test_data / "tokenizers" / "opt").rows
    assert [(row.prompt_len, row.output_len) for row in rows] == [(2, 1)]
    table = datasets.Dataset.from_dict(
        {"prompt_len": [3, 4], "output_len": [5, 6], "arrival_s": [0.5, 1.5]}
    )
    table.to_parquet(tmp_path / "lengths.parquet")
    assert load_dataset(tmp_path / "lengths.parquet").rows == (Row(3, 5, None, 0.5), Row(4, 6, None, 1.5))


def test_damaged_columnar_files(tmp_path: Path):
    for name in ("bad.parquet", "bad.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 nonsense")
        with pytest.raises(TraceError, match="cannot read the data set") as caught:
            load_dataset(tmp_path / name)
        assert "\n" not in str(caught.value)


def offline(*arguments: object, **options: object) -> None:
    raise ConnectionError("no route\nto host")


def test_hub_names(monkeypatch, test_data: Path):
    def load(name: str, split: str) -> datasets.Dataset:
        assert (name, split) == ("tatsu-lab/alpaca", "train")
        return datasets.Dataset.from_list(ALPACA)

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = load_dataset("tatsu-lab/alpaca", test_data / "tokenizers" / "opt")
    assert (data.name, len(data.rows), data.paper_means) == (
        "tatsu-lab/alpaca",
        2,
        MeanLengths(19.31, 58.45),
    )
    assert not data.synthetic


def test_without_network_it_says_what_to_do(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(TraceError, match=r"cannot load tatsu-lab/alpaca from the hub \(no route\): check"):
        load_dataset("tatsu-lab/alpaca")
    with pytest.raises(
        TraceError, match=r"alpaca_data.json from github.com/tatsu-lab/stanford_alpaca by hand"
    ):
        fetch("alpaca", tmp_path)
    with pytest.raises(TraceError, match=r"get the file from huggingface.co/datasets/anon8231489123"):
        fetch("sharegpt", tmp_path)
    assert not list(tmp_path.iterdir())


def test_fetched_files_are_whole_and_can_be_read(monkeypatch, tmp_path: Path, test_data: Path):
    def download(name: str, file: str, repo_type: str, local_dir: str) -> str:
        (Path(local_dir) / file).write_text(json.dumps(SHAREGPT))
        return str(Path(local_dir) / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(ALPACA))
    assert fetch("alpaca", tmp_path / "a.json") == tmp_path / "a.json"
    assert json.loads((tmp_path / "a.json").read_text()) == ALPACA
    target = fetch("sharegpt", tmp_path)
    assert target == tmp_path / "ShareGPT_V3_unfiltered_cleaned_split.json"
    assert json.loads(target.read_text()) == SHAREGPT
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_fetched(tmp_path: Path):
    with pytest.raises(TraceError, match="unknown data set to fetch 'alpacca': did you mean alpaca"):
        fetch("alpacca", tmp_path)
    with pytest.raises(TraceError, match=r"the folder .* does not exist"):
        fetch("alpaca", tmp_path / "missing" / "a.json")


def test_lengths_need_no_heavy_library():
    code = (
        "import sys; from pagedbench.workload import dataset, trace; "
        "trace.build_trace(dataset.load_dataset('sharegpt')); "
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'tokenizers', 'huggingface_hub'}; "
        "print(heavy & sys.modules.keys() or None)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "None"
