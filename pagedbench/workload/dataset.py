"""The rows of a data set by its name: bundled, synthesized, of a local file, or of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path

from pagedbench.workload.bundled import NAMES, TRAFFIC_FILES, traces_folder
from pagedbench.workload.formats import has_sessions, read_file, read_folder
from pagedbench.workload.hub import ALPACA_ID, is_columnar, read_columnar, read_hub
from pagedbench.workload.rows import Row, TraceError, shown, unknown_name
from pagedbench.workload.tokenizer import TextTokenizer, load_tokenizer

SYNTHETIC_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class MeanLengths:
    """Mean tokens of prompt and output."""

    prompt: float
    output: float


PAPER_MEANS = {"sharegpt": MeanLengths(161.31, 337.99), "alpaca": MeanLengths(19.31, 58.45)}
"""Mean lengths by the legends of the paper's Fig. 11."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows of lengths and their source.

    Attributes:
        name: the bundled name, the hub id, or the file's name.
        source: the source in words, for the header and the manifest.
        synthetic: the lengths were sampled, not counted in real text.
        num_unreadable: records that lack a prompt or a reply, left out.
        is_text: a tokenizer was needed.
        paper_means: the paper's figures for this data set.
    """

    name: str
    rows: tuple[Row, ...]
    source: str
    synthetic: bool
    num_unreadable: int = 0
    is_text: bool = False
    paper_means: MeanLengths | None = None

    @property
    def means(self) -> MeanLengths:
        """The means of all rows; a run drops some rows."""
        number = len(self.rows)
        return MeanLengths(
            sum(row.prompt_len for row in self.rows) / number,
            sum(row.output_len for row in self.rows) / number,
        )


def load_dataset(
    name: str | Path,
    tokenizer: str | Path | None = None,
    *,
    chat: bool = False,
    block_size: int | None = None,
) -> Dataset:
    """Find and read a data set.

    Args:
        name: one of `bundled.NAMES`; a file in any format of `formats`, parquet or arrow; a
            folder of Weka sessions or of `save_to_disk`; or the hub id of a data set in ShareGPT or Alpaca
            form.
        tokenizer: file, folder or hub id; loaded only if the data set holds text.
        chat: conversations with all their turns, instead of the first ones.
        block_size: tokens per block of traces whose block ids come without a size.

    Raises:
        TraceError: there is no such data set, or it cannot be read.
    """
    dataset = _load(str(name), tokenizer, chat=chat, block_size=block_size)
    if chat and all(row.session is None for row in dataset.rows):
        raise TraceError(
            f"{name} holds no conversations, which --chat needs: name a ShareGPT JSON file, or a trace "
            "with sessions"
        )
    return dataset


def _load(text: str, tokenizer: str | Path | None, *, chat: bool, block_size: int | None) -> Dataset:
    if text in TRAFFIC_FILES:
        return _bundled_traffic(text)
    if text in NAMES:
        return _bundled(text)

    def load() -> TextTokenizer:
        if tokenizer is None:
            raise TraceError(f"{text} holds text: name with --tokenizer what counts its tokens")
        return load_tokenizer(tokenizer)

    path, means = Path(text).expanduser(), None
    if _exists(path):
        if is_columnar(path):
            reading = read_columnar(path, load, chat=chat)
        elif path.is_dir():
            reading = read_folder(path, block_size)
        else:
            reading = read_file(path, load, chat=chat, block_size=block_size)
        name, source = path.name, f"{'text' if reading.is_text else 'lengths'} of {path.name}"
    elif _is_hub_id(text):
        reading = read_hub(text, load, chat=chat)
        name, source = text, f"the data set {text} of the hub, split train"
        means = PAPER_MEANS["alpaca"] if text == ALPACA_ID else None
    else:
        raise _unknown(text)
    return Dataset(
        name,
        reading.rows,
        source,
        synthetic=False,
        num_unreadable=reading.num_unreadable,
        is_text=reading.is_text,
        paper_means=means,
    )


def check_name(text: str) -> None:
    """Check that such a data set may exist, by its name alone.

    Raises:
        TraceError: it is neither a bundled set, nor a file or folder, nor a hub id.
    """
    path = Path(text).expanduser()
    if text in NAMES:
        return
    if _exists(path):
        if path.is_dir() and not is_columnar(path) and not has_sessions(path):
            raise TraceError(f"{path} is a folder without a Weka session: name a trace file in it")
    elif not _is_hub_id(text):
        raise _unknown(text)


def _unknown(text: str) -> TraceError:
    if Path(text).suffix or "/" in text:
        return TraceError(f"the trace file {shown(text)} does not exist")
    return unknown_name("trace", text, (*NAMES, "a file", "a hub id with a slash"))


def _bundled(name: str) -> Dataset:
    """Read bundled lengths, or sample those of `synthetic`, which are the same for every seed of a run."""
    from pagedbench.workload.synth import length_model, synthesize

    source = f"sampled; {length_model(name).source}"
    if name not in PAPER_MEANS:
        return Dataset(name, tuple(synthesize(name, SYNTHETIC_ROWS, seed=0)), source, synthetic=True)
    _, *lines = traces_folder().joinpath(f"{name}.csv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(",") for line in lines]  # our own, so they need not be checked
    rows = tuple([Row(int(prompt), int(output)) for prompt, output in pairs])
    return Dataset(name, rows, source, synthetic=True, paper_means=PAPER_MEANS[name])


def _bundled_traffic(name: str) -> Dataset:
    from pagedbench.workload.synth_traffic import traffic_source

    with as_file(traces_folder().joinpath(TRAFFIC_FILES[name])) as path:
        reading = read_file(path, _no_tokenizer)
    return Dataset(name, reading.rows, f"sampled; {traffic_source(name)}", synthetic=True)


def _no_tokenizer() -> TextTokenizer:
    raise AssertionError("bundled traces hold no text")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no file can have this name
        return False


def _is_hub_id(name: str) -> bool:
    """Is it `owner/name`, and does not look like the path of a trace file?"""
    owner, slash, rest = name.partition("/")
    looks_like_file = rest.endswith((".csv", ".json", ".jsonl", ".gz", ".parquet", ".arrow"))
    return bool(slash and owner.strip(".~") and rest and "/" not in rest) and not looks_like_file
