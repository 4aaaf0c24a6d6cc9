"""Runs with several sequences a request, shared beginnings and conversations, from the command line."""

from __future__ import annotations

import csv
import itertools
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, SIMULATED, Answer
from models.folders import make_opt_folder
from pagedbench.simulation.executor import BEST_PARENT_PROBABILITY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

MIXED = "prompt_len,output_len,n,beam_width\n90,40,3,\n50,60,,4\n70,9,,\n20,1,2,1\n"
CHAT = "prompt_len,output_len,session\n" + "".join(
    f"{40 + 7 * (i % 5)},{60 + 11 * (i % 7)},{i % 6}\n" for i in range(30)
)

KINDS = {
    "samples": (
        "--duration",
        "20",
        "--n",
        "4",
        "--temperature",
        "1",
        "--top-p",
        "0.9",
        "--kv-slots",
        "4800",
    ),
    "beams": ("--duration", "20", "--beam-width", "3", "--preemption", "swap", "--kv-slots", "4800"),
    "prefixes": ("--duration", "20", "--shared-prefix-len", "80", "--shared-prefix-groups", "2"),
    "chat": ("--trace", "chat.csv", "--duration", "20", "--prefix-caching", "--swap-space", "1GiB"),
    "mixed": ("--trace", "mixed.csv", "--duration", "20", "--temperature", "0.7", "--top-k", "9"),
}


@pytest.fixture
def traces(here: Path) -> Path:
    (here / "chat.csv").write_text(CHAT)
    (here / "mixed.csv").write_text(MIXED)
    return here


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict[str, str]:
    (row,) = rows_of(folder / "summary.csv")
    return row


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_repeated_byte_for_byte_also_from_its_config(
    kind: str, pagedbench: Command, traces: Path
) -> None:
    arguments = ("run", *SIMULATED, *KINDS[kind], "--strict", "--save-outputs", "--output")
    assert pagedbench(*arguments, "a").code == 0
    assert pagedbench(*arguments, "b").code == 0
    again = ("run", "--config", "a/config.toml", "--strict", "--save-outputs", "--output", "c")
    assert pagedbench(*again).code == 0
    for name in ("requests.csv", "steps.csv", "outputs.jsonl", "config.toml"):
        texts = {(traces / folder / name).read_bytes() for folder in "abc"}
        assert len(texts) == 1, name


def test_samples_share_blocks_and_the_saving_is_said(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--n", "2,6", "--temperature", "1", "--output", "out")
    assert answer.code == 0
    rows = [summary_of(here / "out" / f"paged_sharegpt_r2_s0_n{n}") for n in (2, 6)]
    assert [(row["n"], row["beam_width"], row["valid"]) for row in rows] == [
        ("2", "", "True"),
        ("6", "", "True"),
    ]
    saved = [float(row["kv_shared_saved_pct"]) for row in rows]
    assert 5 < saved[0] < saved[1] < 50
    assert f"Sharing saved {saved[0]:.0f} % of the blocks." in answer.out
    assert f"paged 6: sharing saved {saved[1]:.0f} % of the blocks." in answer.out
    assert "6 samples of each prompt, temperature 1" in answer.out
    assert all(int(row["cow_copies"]) > 0 for row in rows)
    assert len({row["trace_sha256"] for row in rows}) == 2
    widths = {row["n"] for row in rows_of(here / "out" / "paged_sharegpt_r2_s0_n6" / "requests.csv")}
    assert widths == {"6"}
    assert float(rows[1]["output_throughput"]) > 1.5 * float(rows[0]["output_throughput"])


def test_simulated_beams_say_their_law(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--beam-width", "4", "--output", "out")
    text = " ".join(answer.out.split())
    assert "beam search, 4 beams" in text
    assert f"the best one with probability {BEST_PARENT_PROBABILITY:g}" in text
    assert (summary_of(here / "out")["n"], summary_of(here / "out")["beam_width"]) == ("1", "4")
    assert "probability" not in pagedbench("run", *QUICK).out


def test_a_small_pool_swaps_or_recomputes_as_asked(pagedbench: Command, here: Path) -> None:
    options = ("--n", "4", "--temperature", "1", "--kv-slots", "4800", "--preemption", "swap,recompute",
               "--cost-model", "roofline")  # fmt: skip
    assert pagedbench("run", *QUICK, *options, "--strict", "--output", "out").code == 0
    swap, recompute = (
        summary_of(here / "out" / f"paged_sharegpt_r2_s0_{kind}") for kind in ("swap", "recompute")
    )
    assert (int(swap["preemptions_recompute"]), int(recompute["preemptions_swap"])) == (0, 0)
    assert int(swap["preemptions_swap"]) > 0
    assert int(recompute["preemptions_recompute"]) > 0
    assert int(swap["blocks_swapped_in"]) >= int(swap["blocks_swapped_out"]) > 0  # shared tails come twice
    assert (recompute["blocks_swapped_in"], recompute["blocks_swapped_out"]) == ("0", "0")


def test_a_host_without_room_recomputes(pagedbench: Command, here: Path) -> None:
    options = ("--n", "4", "--temperature", "1", "--kv-slots", "4800", "--swap-space", "0")
    assert pagedbench("run", *QUICK, *options, "--strict", "--output", "out").code == 0
    row = summary_of(here / "out")
    assert int(row["preemptions_recompute"]) > int(row["preemptions_swap"]) == 0


def test_registered_prefixes_are_computed_once_by_paged_alone(pagedbench: Command, here: Path) -> None:
    options = ("--shared-prefix-len", "160", "--shared-prefix-groups", "2", "--system", "paged,orca-oracle")
    answer = pagedbench("run", *QUICK, *options, "--strict", "--output", "out")
    assert answer.code == 0
    assert "every prompt begins with one of 2 texts of 160 tokens" in " ".join(answer.out.split())
    paged, orca = (summary_of(here / "out" / f"{name}_sharegpt_r2_s0") for name in ("paged", "orca-oracle"))
    assert paged["trace_sha256"] == orca["trace_sha256"]
    assert orca["prefix_hit_pct"] == ""
    found = float(paged["prefix_hit_pct"])
    assert 20 < found < 90
    assert f"paged: sharing saved {float(paged['kv_shared_saved_pct']):.0f} % of the blocks." in answer.out
    assert f"Prefix cache: {found:.0f} % of prompt tokens were found." in answer.out
    computed = [
        sum(
            int(step["prefill_tokens"])
            for step in rows_of(here / "out" / f"{name}_sharegpt_r2_s0/steps.csv")
        )
        for name in ("paged", "orca-oracle")
    ]
    requests = rows_of(here / "out" / "paged_sharegpt_r2_s0" / "requests.csv")
    assert computed[1] == sum(int(request["prompt_len"]) for request in requests)
    assert computed[1] - computed[0] == 160 * (len(requests) - 2)


def test_turns_wait_and_the_cache_knows_their_past(pagedbench: Command, traces: Path) -> None:
    answers = [
        pagedbench("run", *SIMULATED, "--trace", "chat.csv", "--rate", "2", "--num-requests", "30", *more,
                   "--strict", "--output", name)
        for name, more in (("off", ()), ("on", ("--prefix-caching",)))
    ]  # fmt: skip
    assert [answer.code for answer in answers] == [0, 0]
    assert "6 sessions; a turn waits for the replies in its prompt" in " ".join(answers[1].out.split())
    requests = rows_of(traces / "on" / "requests.csv")
    assert len(requests) == 30
    prompts = sorted(int(request["prompt_len"]) for request in requests)
    assert prompts[-1] > 5 * prompts[0]  # histories grow
    for start in range(0, 30, 5):  # five turns each
        turns = requests[start : start + 5]
        for before, turn in itertools.pairwise(turns):
            assert turn["arrival_s"] == before["finish_s"]
    on, off = summary_of(traces / "on"), summary_of(traces / "off")
    assert (float(on["prefix_hit_pct"]) > 20, off["prefix_hit_pct"]) == (True, "")
    assert on["trace_sha256"] == off["trace_sha256"]
    assert float(on["ttft_mean_ms"]) < float(off["ttft_mean_ms"])
    hits = [int(step["prefix_hits"]) for step in rows_of(traces / "on" / "steps.csv")]
    assert sum(hits) > 0


@pytest.mark.parametrize("system", ["orca-max", "fastertransformer"])
def test_every_system_serves_conversations_and_mixed_decoding(
    system: str, pagedbench: Command, traces: Path
) -> None:
    for trace in ("chat.csv", "mixed.csv"):
        answer = pagedbench(
            "run", *SIMULATED, "--system", system, "--trace", trace, "--num-requests", "30",
            "--temperature", "1", "--strict", "--output", trace.partition(".")[0],
        )  # fmt: skip
        assert answer.code == 0
    row = summary_of(traces / "mixed")
    assert (row["n"], row["beam_width"], row["completed"]) == ("", "", "30")
    assert "as the trace says of each request" in answer.out


def test_a_failed_turn_does_not_hold_up_the_next(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_text("prompt_len,output_len,session\n10,10,a\n400,400,a\n10,10,b\n5,5,a\n")
    answer = pagedbench("run", *SIMULATED, "--trace", "t.csv", "--rate", "inf", "--kv-slots", "320",
                        "--output", "out")  # fmt: skip
    assert answer.code == 0
    states = [row["status"] for row in rows_of(here / "out" / "requests.csv")]
    assert states == ["completed", "failed", "failed", "completed"]


def test_a_request_that_is_too_wide_fails_alone(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_text("prompt_len,output_len,n\n9,5,\n9,5,64\n9,5,2\n9,5,2\n")
    options = ("--trace", "t.csv", "--rate", "inf", "--temperature", "1", "--max-num-seqs", "32")
    answer = pagedbench("run", *SIMULATED, *options, "--system", "paged,ft", "--output", "out")
    assert answer.code == 0
    assert "more sequences than --max-num-seqs" in " ".join(answer.out.split())
    for folder in (here / "out").iterdir():
        statuses = sorted((row["n"], row["status"]) for row in rows_of(folder / "requests.csv"))
        assert statuses == [("1", "completed"), ("2", "completed"), ("2", "completed"), ("64", "failed")]
    ft = here / "out" / "fastertransformer_t.csv_rinf_s0"
    assert "batch_size = 3" in (ft / "config.toml").read_text()  # for the widest that runs, of 2


def test_a_dry_run_shows_switches_that_are_on(pagedbench: Command, here: Path) -> None:
    shown = " ".join(pagedbench("run", *QUICK, "--prefix-caching", "--dry-run").out.split())
    assert "--prefix-caching" in shown
    assert "--chat" not in shown
    (here / "a.toml").write_text("prefix_caching = true\n")
    shown = pagedbench("run", *QUICK, "--config", "a.toml", "--no-prefix-caching", "--dry-run").out
    assert "--prefix-caching" not in shown


def test_a_real_model_gives_the_same_tokens_everywhere(pagedbench: Command, here: Path) -> None:
    model = make_opt_folder(here / "model")
    requests = [
        {"prompt": [5, 6, 7], "out": 6},
        {"prompt": [8, 9], "out": 5, "n": 3},
        {"prompt": [8, 9, 10, 11], "out": 7, "beam_width": 2},
    ]
    (here / "t.json").write_text(json.dumps({"requests": requests}))
    answer = pagedbench(
        "run", "--device", "cpu", "--dtype", "float32", "--model", model, "--trace", "t.json",
        "--rate", "inf", "--warmup", "0",
        "--system", "paged,orca-max,ft", "--temperature", "1", "--shared-prefix-len", "18",
        "--shared-prefix-groups", "2", "--kv-slots", "512", "--max-model-len", "64", "--block-size", "4",
        "--save-outputs", "--output", "out",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert {summary_of(folder)["valid"] for folder in (here / "out").iterdir()} == {"True"}
    texts = [(folder / "outputs.jsonl").read_text() for folder in sorted((here / "out").iterdir())]
    lines = [[json.loads(line) for line in text.splitlines()] for text in texts]
    tokens = [[line["token_ids"] for line in found] for found in lines]
    assert tokens[0] == tokens[1] == tokens[2]
    assert [(line["request_id"], line["sequence"]) for line in lines[0]] == [
        (0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1),
    ]  # fmt: skip
    assert [len(ids) for ids in tokens[0]] == [6, 5, 5, 5, 7, 7]
    assert lines[0][4]["cumulative_logprob"] > lines[0][5]["cumulative_logprob"]  # the best beam first
    assert [len(line["prompt_token_ids"]) for line in lines[0]] == [21, 20, 20, 20, 22, 22]
    assert lines[0][1]["prompt_token_ids"][18:] == [8, 9]
