"""`run` and `compare` in virtual time: what they print, what they leave, and how they end."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, SIMULATED, Answer
from pagedbench.show.session import Finished, Session
from pagedbench.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pagedbench.runs.jobs import Job

    Command = Callable[..., Answer]

FOLDER = {"manifest.json", "config.toml", "summary.json", "summary.csv", "requests.csv", "steps.csv"}


def row_of(folder: Path) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO((folder / "summary.csv").read_text(encoding="utf-8")))
    return row


def test_run_says_what_ran_and_saves_it(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--output", "out")
    assert (answer.code, answer.err) == (0, "")
    assert {path.name for path in (here / "out").iterdir()} == FOLDER
    row = row_of(here / "out")
    for words in (
        "A100-40GB, simulated",
        "11.98 GiB, 981 blocks of 16, 15,696 tokens",
        "weights none (simulated)",
        f"{row['num_requests']} requests",
        "(paper 161.31)",
        "synthesized",
        "realised",
        "The KV pool never filled",
        "Valid        yes",
        "Saved to out",
    ):
        assert words in answer.out
    assert "Overloaded" not in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 80


def test_run_without_output_names_its_own_folder(pagedbench: Command, here: Path) -> None:
    assert pagedbench("run", *QUICK).code == 0
    (folder,) = (here / "results").iterdir()
    assert folder.name.endswith("_paged_sharegpt_r2_s0")


def test_folders_of_several_runs_are_named_after_what_varies(pagedbench: Command, here: Path) -> None:
    assert pagedbench("run", *QUICK, "--block-size", "8,16").code == 0
    names = sorted(folder.name.partition("_")[2] for folder in (here / "results").iterdir())
    assert names == ["paged_sharegpt_r2_s0_b16", "paged_sharegpt_r2_s0_b8"]


def test_what_runs_have_in_common_is_said_once(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--block-size", "8,16", "--output", "out")
    for label in ("Model ", "Device ", "Trace ", "Lengths ", "Arrivals "):
        assert answer.out.count(f"\n{label}") == 1
    assert answer.out.count("blocks of 8, 15,696") == answer.out.count("blocks of 16, 15,696") == 1
    assert "run 1/2: paged_sharegpt_r2_s0_b8" in answer.out


def test_overload_is_said_before_any_figure(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *SIMULATED, "--duration", "60", "--system", "orca-max", "--rate", "4")
    assert answer.code == 0
    assert 0 < answer.out.index("Overloaded") < answer.out.index("time to first token")
    assert "never filled" not in answer.out


def test_config_of_a_run_repeats_it(pagedbench: Command, here: Path) -> None:
    pagedbench("run", *QUICK, "--system", "orca-pow2", "--seed", "3", "--output", "a")
    assert pagedbench("run", "--config", "a/config.toml", "--output", "b").code == 0
    for name in ("requests.csv", "steps.csv", "config.toml"):
        assert (here / "a" / name).read_bytes() == (here / "b" / name).read_bytes()


def test_force_replaces(pagedbench: Command, here: Path) -> None:
    pagedbench("run", *QUICK, "--output", "out")
    assert pagedbench("run", *QUICK, "--system", "orca-max", "--output", "out", "--force").code == 0
    assert row_of(here / "out")["system"] == "orca-max"


def test_dry_run_tells_the_plan_and_writes_nothing(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--system", "ft,paged", "--output", "out", "--dry-run")
    assert answer.code == 0
    for words in (
        "981 blocks",
        "parameters",
        "left for the KV cache",
        "--batch-size 7",
        "run 2/2",
        "--system paged",
    ):
        assert words in answer.out
    assert not list(here.iterdir())


def test_json_is_all_that_stdout_holds(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--format", "json", "--output", "out")
    found = json.loads(answer.out)
    row = row_of(here / "out")
    assert [name for name in found if name not in ("status", "folder")] == list(row)
    assert found["request_throughput"] == pytest.approx(float(row["request_throughput"]))
    assert (found["status"], found["folder"], found["valid"]) == ("complete", "out", True)
    assert answer.err == "Saved to out\n"


def test_json_has_no_infinity(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *SIMULATED, "--rate", "inf,2", "--num-requests", "9", "--format", "json")
    rates = [found["rate"] for found in json.loads(answer.out)]
    assert rates == ["inf", 2.0]
    assert math.isinf(float(rates[0]))


def test_csv_is_a_row_a_run(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--rate", "1,2", "--format", "csv", "--output", "out")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    folders = [here / "out" / f"paged_sharegpt_r{rate}_s0" for rate in (1, 2)]
    assert [row["run_id"] for row in rows] == [row_of(folder)["run_id"] for folder in folders]


def test_markdown_is_a_row_a_run(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--system", "paged,orca-max", "--format", "md")
    lines = answer.out.splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| paged |")
    assert "**" in answer.out


def test_several_runs_end_in_one_table(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--system", "paged,orca-max", "--seed", "0,1", "--output", "out")
    assert answer.code == 0
    assert len(list((here / "out").iterdir())) == 4
    table = answer.out[answer.out.rindex("run 4/4") :]
    assert len(re.findall(r"\npaged +[01] ", table)) >= 2
    assert "seed" in table


def test_same_name_in_two_folders_gets_two_folders(pagedbench: Command, here: Path) -> None:
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "t.csv").write_text("prompt_len,output_len\n5,6\n")
    answer = pagedbench("run", *QUICK, "--trace", "a/t.csv,b/t.csv", "--output", "out")
    assert answer.code == 0
    assert len(list((here / "out").iterdir())) == 2


def test_failed_request_makes_the_run_invalid(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_text("prompt_len,output_len\n100,900\n5,5\n")
    arguments = ("run", *SIMULATED, "--trace", "t.csv", "--rate", "inf", "--kv-slots", "160", "--output")
    answer = pagedbench(*arguments, "a")
    assert answer.code == 0
    assert "no: 1 request failed" in answer.out
    assert pagedbench(*arguments, "b", "--strict").code == 5
    assert row_of(here / "b")["valid"] == "False"


def test_strict_accepts_a_valid_run(pagedbench: Command, here: Path) -> None:
    assert pagedbench("run", *QUICK, "--strict").code == 0


MISSED = ("--slo", "ttft:60ms", "--require-slo")


def test_a_missed_slo_is_code_4_after_all_reports(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, *MISSED, "95%", "--output", "out")
    attained = float(row_of(here / "out")["slo_attainment"])
    assert answer.code == 4
    assert "Saved to out" in answer.out
    short = f"paged {100 * attained:.1f} % ({95 - 100 * attained:.1f} points short)"
    assert answer.err == f"SLO missed: 95 % of the requests must meet it; {short}.\n"
    assert pagedbench("run", *QUICK, *MISSED, f"{attained}").code == 0


def test_comparisons_require_an_slo_of_every_system(pagedbench: Command, here: Path) -> None:
    systems = ("--system", "paged,orca-max", "--rate", "3")
    answer = pagedbench("compare", *QUICK, *systems, *MISSED, "0.3", "--format", "csv")
    assert answer.code == 4
    missed = [line for line in answer.err.splitlines() if line.startswith("SLO missed")]
    assert len(missed) == 1
    assert "orca-max" in missed[0]
    assert len(answer.out.splitlines()) == 3
    gated = pagedbench("compare", *QUICK, *systems, *MISSED, "99%", "--gate", "ttft", "--output", "out")
    assert (gated.code, gated.err.count("SLO missed")) == (3, 2)  # a regression comes first
    assert "slo_attainment" in (here / "out" / "junit.xml").read_text(encoding="utf-8")


def test_an_invalid_run_keeps_no_slo(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_text("prompt_len,output_len\n100,900\n5,5\n")
    pool = ("--trace", "t.csv", "--rate", "inf", "--kv-slots", "160")
    assert pagedbench("run", *SIMULATED, *pool, *MISSED, "99%").code == 4
    assert pagedbench("run", *SIMULATED, *pool, *MISSED, "99%", "--strict").code == 5


def test_a_preset_says_what_it_stands_for(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("run", *QUICK, "--slo", "chat", "--output", "out")
    assert "ttft:250ms tpot:100ms" in answer.out
    assert "DistServe" in answer.out
    document = json.loads((here / "out" / "summary.json").read_text(encoding="utf-8"))
    assert document["slo"] == [{"name": "ttft", "at_most_s": 0.25}, {"name": "tpot", "at_most_s": 0.1}]
    assert "DistServe" in document["slo_source"][0]


def test_a_spike_is_said_and_saved(pagedbench: Command, here: Path) -> None:
    spike = ("--arrival", "spike", "--spike-at", "15", "--spike-duration", "5")
    answer = pagedbench("run", *SIMULATED, *spike, "--duration", "40", "--output", "out")
    assert "Spike: 3 x the rate from 15 to 20 s: TTFT p95" in " ".join(answer.out.split())
    document = json.loads((here / "out" / "summary.json").read_text(encoding="utf-8"))
    assert document["spike"]["spike_waiting_max"]["no_interval"].startswith("one spike of one run")
    assert document["latency"]["ttft_p95_ms"]["n"] == document["requests"]["completed"]["value"]
    manifest = json.loads((here / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["trace"]["spike"] == {"start_s": 15.0, "end_s": 20.0, "factor": 3.0}


def test_compare_says_who_recovers_first(pagedbench: Command, here: Path) -> None:
    spike = ("--arrival", "spike", "--duration", "120", "--rate", "1", "--system", "paged,orca-max")
    text = " ".join(pagedbench("compare", *SIMULATED, *spike).out.split())
    assert "Spike: 3 x the rate from 60 to 90 s" in text
    assert "paged recovers first" in text
    assert "its queue waits for memory" in text


def test_compare_puts_every_system_in_one_table(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("compare", *SIMULATED, "--duration", "60", "--output", "out")
    assert (answer.code, answer.err) == (0, "")
    rows = {path.name.split("_")[0]: row_of(path) for path in (here / "out").iterdir()}
    assert set(rows) == set(SYSTEMS)
    assert len({row["trace_sha256"] for row in rows.values()}) == 1
    assert len({row["kv_slots"] for row in rows.values()}) == 1
    lines = answer.out.splitlines()
    assert max(len(line) for line in lines) <= 120
    figures = {name: next(line for line in lines if line.startswith(f"{name} ")) for name in SYSTEMS}
    best = max(rows, key=lambda name: float(rows[name]["request_throughput"]))
    for name, line in figures.items():
        marked = line.split()[1].endswith("*")
        assert marked == (name == best)
    ratio = float(rows["orca-max"]["request_throughput"]) / float(rows["paged"]["request_throughput"])
    assert float(figures["orca-max"].split()[2].rstrip("x")) == pytest.approx(ratio, rel=0.006)


def test_compare_takes_some_systems(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("compare", *QUICK, "--system", "orca-max,ft", "--format", "json")
    assert [found["system"] for found in json.loads(answer.out)] == ["orca-max", "fastertransformer"]


def test_a_pool_that_no_system_filled_is_said(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("compare", *SIMULATED, "--num-requests", "2", "--system", "paged,orca-oracle")
    assert "systems are expected to tie" in answer.out


def test_interrupted_comparison_says_what_is_missing(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = Session.execute

    def interrupt(session: Session, job: Job, title: str = "") -> Finished:
        finished = execute(session, job, title)
        session.is_interrupted = True
        return finished

    monkeypatch.setattr(Session, "execute", interrupt)
    answer = pagedbench("compare", *QUICK)
    assert answer.code == 130
    assert "Interrupted: 5 of 6 runs were not started." in answer.out


def test_home_is_found(pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert pagedbench("run", *QUICK, "--output=~/out").code == 0
    assert pagedbench("run", "--config=~/out/config.toml", "--dry-run").code == 0
    assert [path.name for path in here.iterdir()] == ["out"]
