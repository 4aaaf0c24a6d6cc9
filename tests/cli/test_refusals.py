"""Every wrong input: exit code 2, one sentence that says what to change, nothing written."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, SIMULATED, Answer
from models.folders import make_opt_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Answer]

MEMORY = Path("/proc/self/mem")
"""Reading its beginning fails for everybody, root included."""

CASES = {
    "unknown command": (("walk",), "No such command"),
    "unknown option": (("run", "--systen", "paged"), "--system"),
    "argument": (("run", *QUICK, "extra"), "extra"),
    "saved runs": (("compare", *QUICK, "a", "b"), "no effect on saved runs"),
    "missing value": (("run", "--rate"), "requires an argument"),
    "no required share": (("run", *QUICK, "--slo", "chat", "--require-slo", "0"), "not '0'"),
    "too large a share": (("run", *QUICK, "--slo", "chat", "--require-slo", "101%"), "at most 100%"),
    "word as share": (("compare", *QUICK, "--slo", "chat", "--require-slo", "abc"), "not 'abc'"),
    "required without bounds": (("run", *QUICK, "--require-slo", "95%"), "--require-slo needs --slo"),
    "required of a sweep": (("sweep", *QUICK, "--slo", "chat", "--require-slo", "9%"), "no effect"),
    "required capacity": (("capacity", *SIMULATED, "--slo", "chat", "--require-slo", "9%"), "--attainment"),
    "required of saved runs": (("compare", "a", "b", "--require-slo", "9%"), "no effect on saved runs"),
    "unknown preset": (("run", *QUICK, "--slo", "chap"), "chat-66b"),
    "unknown system": (("run", *QUICK, "--system", "pagd"), "did you mean paged"),
    "unknown trace": (("run", *QUICK, "--trace", "sharegtp"), "did you mean sharegpt"),
    "missing trace": (("run", *QUICK, "--trace", "no.csv"), "does not exist"),
    "folder as trace": (("run", *QUICK, "--trace", "."), "folder"),
    "unknown simulated device": (("run", "--device", "sim:abacus", "--model", "opt-13b"), "sim:a100-40gb"),
    "unknown device": (("run", "--device", "abacus"), "abacus"),
    "unknown model": (("run", "--model", "opt-14b"), "opt-13b"),
    "unpublished times": (
        ("run", *QUICK, "--cost-model", "published", "--model", "opt-30b", "-tp", "2"),
        "opt-13b",
    ),
    "too small a card": (
        ("run", *QUICK, "--model", "opt-175b", "-tp", "1"),
        "raise --tensor-parallel-size",
    ),
    "ranks that divide no heads": (("run", *QUICK, "-tp", "3"), "40 heads"),
    "cost model of a real device": (("run", "--device", "cpu", "--cost-model", "roofline"), "no effect"),
    "missing profile": (("run", "--device", "sim:none.json"), "none.json"),
    "negative rate": (("run", *QUICK, "--rate", "-1"), "--rate must be above 0"),
    "zero rate": (("run", *QUICK, "--rate", "0"), "--rate must be above 0"),
    "rate that is no number": (("run", *QUICK, "--rate", "nan"), "--rate must be above 0"),
    "word as rate": (("run", *QUICK, "--rate", "fast"), "--rate takes a number"),
    "zero slots": (("run", *QUICK, "--kv-slots", "0"), "--kv-slots must be at least 1"),
    "less than a block": (("run", *QUICK, "--kv-slots", "5"), "--kv-slots"),
    "size without unit": (("run", *QUICK, "--kv-memory", "12apples"), "12GiB"),
    "more slots than any machine has": (("run", *QUICK, "--kv-slots", "9" * 20), "make it smaller"),
    "more bytes than any machine has": (("run", *QUICK, "--kv-memory", "1e400GiB"), "12GiB"),
    "manager of no module": (("run", *QUICK, "--memory", ".x:Y"), "--memory"),
    "blocks for extents": (
        ("run", *QUICK, "--system", "ft", "--memory", "pagedbench.memory.paged:Paged"),
        "leave out --memory",
    ),
    "two sizes": (("run", *QUICK, "--kv-slots", "4096", "--kv-memory", "1GiB"), "give one of the two"),
    "too long for the model": (("run", *QUICK, "--max-model-len", "4096"), "2048"),
    "two lengths of a run": (("run", *QUICK, "--num-requests", "4"), "give one of the two"),
    "two names of an option": (("run", "--num-requests", "4", "--num-prompts", "4"), "given twice"),
    "all at once for a time": (("run", *QUICK, "--rate", "inf"), "--duration has no effect"),
    "no timestamps": (("run", *QUICK, "--arrival", "trace"), "no timestamps"),
    "scale of no timestamps": (("run", *QUICK, "--time-scale", "0.5"), "--time-scale multiplies"),
    "scale of nothing": (("run", *QUICK, "--time-scale", "0"), "--time-scale must be above 0"),
    "endless scale": (("run", *QUICK, "--time-scale", "inf"), "--time-scale must be above 0"),
    "shape of no gamma": (("run", *QUICK, "--burstiness", "0.5"), "no effect"),
    "shape of nothing": (("run", *QUICK, "--arrival", "gamma", "--burstiness", "nan"), "must be above 0"),
    "endless arrivals": (
        ("run", *SIMULATED, "--duration", "inf"),
        "--duration must be a number of seconds",
    ),
    "unknown arrival": (("run", *QUICK, "--arrival", "sometimes"), "--arrival is one of"),
    "unknown format": (("run", *QUICK, "--format", "xml"), "--format is one of"),
    "unknown progress": (("run", *QUICK, "--progress", "loud"), "--progress is one of"),
    "bound of an unknown metric": (("run", *QUICK, "--slo", "speed:3"), "--slo"),
    "idle tokenizer": (("run", *QUICK, "--tokenizer", "x"), "--tokenizer has no effect"),
    "idle batch size": (("run", *QUICK, "--batch-size", "4"), "no effect"),
    "idle force": (("run", *QUICK, "--force"), "no effect"),
    "prefix that leaves no room": (
        ("run", *QUICK, "--shared-prefix-len", "2047"),
        "a shared prefix of 2047 + prompt + output of 2048 tokens or more",
    ),
    "greedy samples": (("run", *QUICK, "--n", "4"), "--n needs a --temperature above 0"),
    "one list of greedy samples": (("run", *QUICK, "--n", "1,4"), "--n needs a --temperature above 0"),
    "samples and beams": (("run", *QUICK, "--n", "1", "--beam-width", "2"), "give one of the two"),
    "sampled beams": (("run", *QUICK, "--beam-width", "2", "--temperature", "1"), "drop --temperature"),
    "no beams": (("run", *QUICK, "--beam-width", "0"), "--beam-width must be at least 1"),
    "no samples": (("run", *QUICK, "--n", "0"), "--n must be at least 1"),
    "too many samples": (("run", *QUICK, "--n", "300", "--temperature", "1"), "--n 300 is above the 256"),
    "too many beams": (("run", *QUICK, "--beam-width", "9", "--max-num-seqs", "8"), "--beam-width 9 is"),
    "greedy top-p": (("run", *QUICK, "--top-p", "0.9"), "--top-p has no effect without a --temperature"),
    "greedy top-k": (("run", *QUICK, "--top-k", "9"), "--top-k has no effect without a --temperature"),
    "top-k of beams": (("run", *QUICK, "--beam-width", "2", "--top-k", "9"), "--top-k has no effect"),
    "top-p of nothing": (("run", *QUICK, "--temperature", "1", "--top-p", "0"), "--top-p must be above 0"),
    "top-p of too much": (("run", *QUICK, "--temperature", "1", "--top-p", "1.1"), "at most 1"),
    "negative top-k": (
        ("run", *QUICK, "--temperature", "1", "--top-k", "-1"),
        "--top-k must be at least 0",
    ),
    "negative temperature": (("run", *QUICK, "--temperature", "-1"), "--temperature must be 0 or more"),
    "unknown preemption": (("run", *QUICK, "--preemption", "never"), "--preemption is one of"),
    "preemption without paged": (
        ("run", *QUICK, "--system", "ft", "--preemption", "swap"),
        "without paged",
    ),
    "eviction of nothing": (
        ("run", *QUICK, "--eviction", "fifo"),
        "--eviction has no effect without --prefix-caching",
    ),
    "eviction without a cache": (
        ("run", *QUICK, "--system", "orca-max", "--eviction", "fifo"),
        "--eviction has no effect without paged",
    ),
    "unknown eviction": (("run", *QUICK, "--prefix-caching", "--eviction", "lrv"), "did you mean lru?"),
    "time without unit": (("run", *QUICK, "--prefix-caching", "--eviction", "ttl:60"), "as in ttl:60s"),
    "abstract eviction": (
        ("run", *QUICK, "--prefix-caching", "--eviction", "pagedbench.memory.eviction:EvictionPolicy"),
        "is abstract",
    ),
    "foresight on a real device": (
        ("run", "--device", "cpu", "--prefix-caching", "--eviction", "belady"),
        "which only a simulation knows",
    ),
    "space without swaps": (
        ("run", *QUICK, "--preemption", "recompute", "--swap-space", "1GiB"),
        "--swap-space has no effect on --preemption recompute",
    ),
    "space without paged": (("run", *QUICK, "--system", "ft", "--swap-space", "1GiB"), "without paged"),
    "space without unit": (("run", *QUICK, "--swap-space", "12apples"), "12GiB"),
    "cache without paged": (("run", *QUICK, "--system", "orca-max", "--prefix-caching"), "without paged"),
    "groups of no prefix": (("run", *QUICK, "--shared-prefix-groups", "2"), "without --shared-prefix-len"),
    "no groups": (
        ("run", *QUICK, "--shared-prefix-len", "9", "--shared-prefix-groups", "0"),
        "--shared-prefix-groups must be at least 1",
    ),
    "prefixes above the pool": (("run", *QUICK, "--shared-prefix-len", "20000"), "enlarge --kv-slots"),
    "prefix above the length": (
        ("run", *QUICK, "--shared-prefix-len", "2047"),
        "no row of sharegpt is left",
    ),
    "chat with a prefix": (("run", *QUICK, "--chat", "--shared-prefix-len", "9"), "drop one of the two"),
    "on and off": (("run", *QUICK, "--prefix-caching", "--no-prefix-caching"), "given twice"),
    "chat of lengths": (("run", *QUICK, "--chat"), "holds no conversations"),
    "missing manager": (("run", *QUICK, "--memory", "nowhere:Nothing"), "--memory"),
    "negative seed": (("run", *QUICK, "--seed", "-1"), "--seed"),
    "seed of more than 64 bits": (("run", *QUICK, "--seed", str(2**64)), "--seed must be at most"),
    "seed of no generator": (("reproduce", "fig2", "--seed", str(2**32)), "--seed"),
    "idle tokenizer of a trace": (
        ("trace", "show", "alpaca", "--tokenizer", "x"),
        "--tokenizer has no effect",
    ),
    "lengths to import": (
        ("trace", "import", "alpaca", "--tokenizer", "x", "--output", "a.csv"),
        "--tokenizer has no effect",
    ),
    "nothing short enough": (("run", *QUICK, "--max-model-len", "2"), "raise --max-model-len"),
    "no room for the model": (("run", "--device", "cpu", "--model", "opt-175b"), "a smaller --model"),
    "missing config": (("run", *QUICK, "--config", "no.toml"), "--config"),
    "unknown trace to show": (("trace", "show", "sharegtp"), "did you mean sharegpt"),
    "no rows": (("trace", "synth", "sharegpt", "--rows", "0", "--output", "a.csv"), "rows"),
    "nowhere to write": (("trace", "synth", "sharegpt", "--rows", "9", "--output", "no/a.csv"), "no/a.csv"),
    "unknown set": (("trace", "synth", "gpt", "--output", "a.csv"), "sharegpt"),
    "unknown fetch": (("trace", "fetch", "gpt"), "sharegpt"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str, pagedbench: Command, here: Path) -> None:
    arguments, words = CASES[case]
    answer = pagedbench(*arguments)
    assert answer.code == 2
    assert words in answer.sentence
    assert answer.out == ""
    assert not list(here.iterdir())


FILES = {
    "empty": b"",
    "no rows": b"prompt_len,output_len\n",
    "wrong shape": b'{"rows": 3}',
    "broken JSON": b"[{",
    "unknown column": b"prompt_len,output_len,mood\n1,2,3\n",
    "word as length": b"prompt_len,output_len\n1,two\n",
    "negative length": b"prompt_len,output_len\n1,-2\n",
    "all too long": b"prompt_len,output_len\n2000,2000\n",
    "time of day as arrival": b"prompt_len,output_len,arrival_s\n1,2,1700000000\n",
    "not text": b"\xff\xfe\x00\x01",
    "damaged gzip": gzip.compress(b"prompt_len,output_len\n1,2\n")[:-9],
    "samples and beams": b"prompt_len,output_len,n,beam_width\n1,2,3,4\n",
    "text without tokenizer": b'[{"instruction": "Add.", "input": "", "output": "2"}]',
}


@pytest.mark.parametrize("case", FILES)
def test_refused_trace_file(case: str, pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_bytes(FILES[case])
    answer = pagedbench("run", *QUICK, "--trace", "t.csv", "--output", "out")
    assert answer.code == 2
    assert "t.csv" in answer.sentence
    assert [path.name for path in here.iterdir()] == ["t.csv"]


@pytest.mark.skipif(not MEMORY.exists(), reason="no file that even root cannot read")
def test_unreadable_trace(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").symlink_to(MEMORY)
    answer = pagedbench("run", *QUICK, "--trace", "t.csv")
    assert answer.code == 2
    assert "cannot read the trace file t.csv" in answer.sentence


def test_full_folder_is_left_alone(pagedbench: Command, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "mine.txt").write_text("keep")
    for command in (("run", *QUICK), ("compare", *QUICK), ("run", *QUICK, "--dry-run")):
        answer = pagedbench(*command, "--output", "out")
        assert answer.code == 2
        assert "--force" in answer.sentence
    assert [path.name for path in (here / "out").iterdir()] == ["mine.txt"]


def test_file_in_place_of_the_folder(pagedbench: Command, here: Path) -> None:
    (here / "out").write_text("keep")
    assert pagedbench("run", *QUICK, "--output", "out", "--force").code == 2
    assert (here / "out").read_text() == "keep"


def test_one_wrong_run_of_several_stops_all(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(
        "run", *SIMULATED, "--duration", "20", "--system", "paged,orca-max", "--rate", "1,nan"
    )
    assert answer.code == 2
    assert not list(here.iterdir())


def test_own_trace_is_not_overwritten(pagedbench: Command, here: Path) -> None:
    (here / "a.csv").write_text("keep")
    answer = pagedbench("trace", "synth", "alpaca", "--rows", "9", "--output", "a.csv")
    assert answer.code == 2
    assert (here / "a.csv").read_text() == "keep"


def test_no_place_for_results(pagedbench: Command, here: Path) -> None:
    """Found out before the run, not after it."""
    (here / "results").write_text("keep")
    answer = pagedbench("run", *QUICK)
    assert answer.code == 2
    assert "use --output" in answer.sentence
    assert pagedbench("run", *QUICK, "--dry-run").code == 0
    assert (here / "results").read_text() == "keep"


def test_tokens_of_another_model(pagedbench: Command, here: Path) -> None:
    (here / "t.json").write_text('{"requests": [{"prompt": [5, 60000], "out": 2}]}')
    few = ("--trace", "t.json", "--num-requests", "1")
    answer = pagedbench("run", "--device", "cpu", *few)
    assert answer.code == 2
    assert "token 60000" in answer.sentence
    assert [path.name for path in here.iterdir()] == ["t.json"]
    assert pagedbench("run", *SIMULATED, *few).code == 0  # only lengths count


def test_more_beams_than_tokens(pagedbench: Command, here: Path) -> None:
    """Of the options, and of one row of a trace."""
    model = make_opt_folder(here / "model", vocab_size=12)
    (here / "t.csv").write_text("prompt_len,output_len,beam_width\n5,4,\n6,4,13\n")
    (here / "u.csv").write_text("prompt_len,output_len\n5,4\n")
    run = ("run", "--device", "cpu", "--model", model, "--rate", "inf", "--output", "out")
    for options in (("--trace", "t.csv"), ("--trace", "u.csv", "--beam-width", "13")):
        answer = pagedbench(*run, *options)
        assert answer.code == 2
        assert "13 beams" in answer.sentence
    assert not (here / "out").exists()
    assert pagedbench(*run, "--trace", "u.csv", "--beam-width", "12", "--warmup", "0").code == 0
