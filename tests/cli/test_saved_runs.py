"""`compare` on saved runs: verdicts, the gate, reports, refusals, exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.cli.run import repeated
from pagedbench.config import RunConfig
from pagedbench.metrics.statistics import Effect
from pagedbench.runs.numbers import number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

SHORT = (*SIMULATED, "--duration", "5", "--format", "csv")
REPORTS = {"comparison.json", "comparison.csv", "comparison.md"}
GATED = REPORTS | {"junit.xml", "benchmark-smaller.json"}
REFUSED = REPORTS | {"junit.xml"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for runs that many tests begin with."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def systems(pagedbench: Command, here: Path, runs: Path) -> Path:
    """paged and orca-max: copies of two runs of one trace in virtual time."""
    if not (runs / "saved").exists():
        asked = ("--system", "paged,orca-max", "--rate", "4", "--output", str(runs / "saved"))
        assert pagedbench("run", *SHORT, *asked).code == 0
    for name in ("paged", "orca-max"):
        shutil.copytree(runs / "saved" / f"{name}_sharegpt_r4_s0", here / name)
    return here


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def as_wall_time(source: Path, target: Path, tpot_factors: tuple[float, ...]) -> None:
    """Repeats of a run as a CPU would leave them: equal but for the time per token."""
    for index, factor in enumerate(tpot_factors):
        folder = target / str(index)
        shutil.copytree(source, folder)
        config = (folder / "config.toml").read_text(encoding="utf-8")
        (folder / "config.toml").write_text(config.replace('"sim:a100-40gb"', '"cpu"'), encoding="utf-8")

        def slow_down(document: dict[str, Any], factor: float = factor) -> None:
            document["latency"]["tpot_p50_ms"]["value"] *= factor

        rewrite(folder / "summary.json", slow_down)
        rewrite(folder / "manifest.json", lambda document: document["plan"].update(device="cpu"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def cases(folder: Path) -> dict[tuple[str | None, str | None], str]:
    """What junit.xml says: classname and name of a test case -> the element in it."""
    found = ElementTree.parse(folder / "junit.xml").iter("testcase")
    return {(case.get("classname"), case.get("name")): case[0].tag for case in found}


def test_equal_runs_are_equal(pagedbench: Command, systems: Path) -> None:
    pagedbench("run", "--config", "paged/config.toml", "--format", "csv", "--output", "again")
    answer = pagedbench("compare", "paged", "again", "--gate", "tpot,ttft", "--output", "report")
    assert answer.code == 0
    assert answer.out.startswith("Gate passed: 2 of 2 gated figures judged.\n")
    assert "Virtual time" in answer.out
    assert names(systems / "report") == GATED
    document = json.loads((systems / "report" / "comparison.json").read_text())
    assert document["verdict"] == "passed"
    assert {item["verdict"] for item in document["findings"]} == {"equal", "not defined"}


def test_a_regression_is_code_3_after_the_reports(pagedbench: Command, systems: Path) -> None:
    answer = pagedbench("compare", "paged", "orca-max", "--gate", "ttft_mean", "--output", "report")
    assert answer.code == 3
    assert answer.out.startswith("Gate failed: 1 regression, the worst in ttft_mean_ms, ")
    assert "system: paged → orca-max" in answer.out
    assert names(systems / "report") == GATED
    assert cases(systems / "report") == {("orca-max", "ttft_mean_ms"): "failure"}
    (entry,) = json.loads((systems / "report" / "benchmark-smaller.json").read_text())
    assert (entry["name"], entry["unit"]) == ("orca-max / ttft_mean_ms", "ms")
    document = json.loads((systems / "report" / "comparison.json").read_text())
    assert (document["schema_version"], document["verdict"]) == (1, "regression")
    text = (systems / "report" / "comparison.md").read_text()
    assert text.startswith("### pagedbench compare: REGRESSION\n\n**Gate failed: 1 regression")
    assert text.count("<details>") == text.count("</details>") == 4
    assert text.index("| ttft_mean_ms |") < text.index("<details>")
    rows = list(csv.DictReader(io.StringIO((systems / "report" / "comparison.csv").read_text())))
    (row,) = [row for row in rows if row["metric"] == "ttft_mean_ms"]
    assert (row["verdict"], row["basis"], row["interval_95_low"]) == ("worse", "exact", "")
    found = [json.loads((systems / name / "summary.json").read_text()) for name in ("paged", "orca-max")]
    first, second = (document["latency"]["ttft_mean_ms"]["value"] for document in found)
    assert float(row["change"]) == pytest.approx(second / first - 1)


def test_better_is_no_regression(pagedbench: Command, systems: Path) -> None:
    assert pagedbench("compare", "orca-max", "paged", "--gate", "ttft_mean").code == 0


def test_wall_time_is_judged_by_pairs(pagedbench: Command, systems: Path) -> None:
    noise = (1.0, 1.01, 0.99, 1.005, 0.995)
    as_wall_time(systems / "paged", systems / "a", noise)
    as_wall_time(systems / "paged", systems / "b", tuple(1.1 * item for item in reversed(noise)))
    answer = pagedbench("compare", "a", "b", "--gate", "tpot")
    assert answer.code == 3
    assert "(5 pairs)" in answer.out
    assert "10 % worse, beyond 5 %" in answer.out
    assert "would be caught in 9 of 10 tries" in answer.out
    assert pagedbench("compare", "a", "b", "--gate", "tpot", "--threshold", "15%").code == 0
    assert pagedbench("compare", "a", "a", "--gate", "tpot").code == 0


def test_a_single_pair_in_wall_time_is_not_gated_unless_asked(pagedbench: Command, systems: Path) -> None:
    for name, factor in (("a", 1.0), ("b", 2.0)):
        as_wall_time(systems / "paged", systems / name, (factor,))

    def doubled(text: str) -> str:
        header, *lines = text.splitlines()
        place = header.split(",").index("tpot_ms")
        rows = [line.split(",") for line in lines]
        for row in rows:
            row[place] = str(2 * float(row[place])) if row[place] else ""
        return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"

    table = systems / "b" / "0" / "requests.csv"
    table.write_text(doubled(table.read_text()))
    command = ("compare", "a", "b", "--gate", "tpot")
    answer = pagedbench(*command)
    assert answer.code == 0
    assert "The gate judged nothing" in answer.out
    assert "one pair" in answer.out
    assert pagedbench(*command, "--gate-single-pair").code == 3


def test_without_a_gate_there_is_nothing_for_ci_servers(pagedbench: Command, systems: Path) -> None:
    assert pagedbench("compare", "paged", "orca-max", "--output", "report").code == 0
    assert names(systems / "report") == REPORTS
    text = (systems / "report" / "comparison.md").read_text()
    assert text.startswith("### pagedbench compare: COMPARED\n")


def test_reports_for_ci_are_replaced_with_the_others(pagedbench: Command, systems: Path) -> None:
    gated = ("compare", "paged", "orca-max", "--gate", "ttft_mean", "--output", "report", "--force")
    assert pagedbench(*gated).code == 3
    assert names(systems / "report") == GATED
    assert pagedbench("compare", "paged", "orca-max", "--output", "report", "--force").code == 0
    assert names(systems / "report") == REPORTS


@pytest.mark.parametrize("kind", ["rich", "json", "csv", "md"])
def test_github_is_told_on_stderr_and_in_the_summary(
    pagedbench: Command, systems: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    command = ("compare", "paged", "orca-max", "--gate", "ttft_mean", "--format", kind)
    plain = pagedbench(*command)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(systems / "summary.md"))
    answer = pagedbench(*command)
    assert (answer.code, answer.out) == (3, plain.out)
    error, notice = answer.err.splitlines()
    assert error.startswith("::error title=pagedbench compare%3A orca-max::ttft_mean_ms ")
    assert error.endswith(" %25 worse, beyond 5 %25.")
    assert notice == "::notice title=pagedbench compare::0 of 1 passed"
    assert (systems / "summary.md").read_text(encoding="utf-8").startswith("### pagedbench compare: REGR")


def test_github_is_told_of_a_refusal(
    pagedbench: Command, systems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pagedbench("run", *SHORT, "--rate", "4", "--kv-slots", "8000", "--output", "small")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    answer = pagedbench("compare", "paged", "small")
    assert answer.code == 6
    assert (
        "::error title=pagedbench compare%3A small::paged and small cannot be compared: pool" in answer.err
    )


def test_what_cannot_be_compared_is_code_6_and_shown(pagedbench: Command, systems: Path) -> None:
    pagedbench("run", *SHORT, "--rate", "4", "--kv-slots", "8000", "--output", "small")
    answer = pagedbench("compare", "paged", "small", "--gate", "tpot", "--output", "report")
    assert answer.code == 6
    assert "pool: 15,696 tokens | 8,000 tokens" in answer.out
    assert "--across pool" in answer.out
    assert names(systems / "report") == REFUSED
    assert cases(systems / "report") == {("small", "comparable"): "failure"}
    assert "cannot be compared" in (systems / "report" / "comparison.md").read_text()
    allowed = pagedbench("compare", "paged", "small", "--across", "pool")
    assert allowed.code == 0
    assert "kv_slots: 15696 → 8000" in allowed.out


def test_runs_of_other_seeds_have_no_partner(pagedbench: Command, systems: Path) -> None:
    pagedbench("run", *SHORT, "--rate", "4", "--seed", "1", "--output", "other")
    answer = pagedbench("compare", "paged", "other")
    assert answer.code == 6
    assert "seed: 0 | 1" in answer.out


def test_an_invalid_run_is_code_5_under_strict(pagedbench: Command, systems: Path) -> None:
    shutil.copytree(systems / "paged", systems / "bad")
    rewrite(
        systems / "bad" / "summary.json",
        lambda document: document["verdict"]["valid"].update(value=False),
    )
    answer = pagedbench("compare", "paged", "bad", "--strict", "--output", "report")
    assert answer.code == 5
    assert "bad: 1 of 1 run invalid." in answer.out
    assert names(systems / "report") == REFUSED
    assert cases(systems / "report") == {("bad", "valid"): "failure"}
    assert pagedbench("compare", "paged", "bad").code == 0


def test_a_starved_run_is_code_5_under_strict(pagedbench: Command, systems: Path) -> None:
    shutil.copytree(systems / "paged", systems / "starved")
    rewrite(
        systems / "starved" / "manifest.json", lambda document: document.update(machine_load={"busy": True})
    )
    answer = pagedbench("compare", "paged", "starved", "--strict", "--output", "report")
    assert answer.code == 5
    assert cases(systems / "report") == {("starved", "undisturbed"): "failure"}
    assert pagedbench("compare", "paged", "starved").code == 0
    assert pagedbench("report", "starved", "--format", "md").code == 0
    assert "was made while this machine was busy" in (systems / "report.md").read_text()


def test_folders_of_runs_and_several_candidates(pagedbench: Command, systems: Path) -> None:
    for name in ("first", "second", "third"):
        (systems / name).mkdir()
        for system in ("paged", "orca-max"):
            shutil.copytree(systems / system, systems / name / system)
    answer = pagedbench("compare", "first", "second", "third", "--format", "json")
    assert answer.code == 0
    document = json.loads(answer.out)
    assert [item["num_pairs"] for item in document["candidates"]] == [2, 2]
    assert {item["group"] for item in document["findings"]} == {"paged", "orca-max"}


@pytest.mark.parametrize("kind", ["md", "csv", "json"])
def test_documents_are_whole(pagedbench: Command, systems: Path, kind: str) -> None:
    answer = pagedbench("compare", "paged", "orca-max", "--format", kind, "--metric", "tpot,ttft_p99")
    assert (answer.code, answer.err) == (0, "")
    assert "tpot_p50_ms" in answer.out
    assert "ttft_p99_ms" in answer.out
    assert "e2el" not in answer.out  # runs in virtual time are exact, and hold every metric
    everything = pagedbench("compare", "paged", "orca-max", "--format", kind)
    assert "e2el_p99_s" in everything.out


def test_the_default_gate_is_a_set(pagedbench: Command, systems: Path) -> None:
    answer = pagedbench("compare", "paged", "orca-max", "--gate", "default", "--format", "json")
    assert answer.code == 3
    gated = [item["metric"] for item in json.loads(answer.out)["gate"]]
    assert gated == [
        "output_throughput",
        "normalized_latency_mean_s",
        "ttft_mean_ms",
        "ttft_p50_ms",
        "tpot_p50_ms",
        "e2el_mean_s",
    ]


def test_small_changes_are_the_same(pagedbench: Command, systems: Path) -> None:
    folder = systems / "near"
    shutil.copytree(systems / "paged", folder)
    document = json.loads((folder / "summary.json").read_text())
    document["latency"]["tpot_p50_ms"]["value"] *= 1.0005
    (folder / "summary.json").write_text(json.dumps(document))
    answer = pagedbench("compare", "paged", "near")
    assert answer.out.startswith("No change of 0.1 % or more.\n")
    (row,) = [line for line in answer.out.splitlines() if line.startswith("tpot_p50_ms")]
    assert row.split()[-1] == "same"
    assert "same: a change of less than 0.1 %" in answer.out
    assert pagedbench("compare", "paged", "near", "--relevance", "0").out.startswith("1 worse.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("paged",), "a second saved run"),
        (("paged", "nowhere"), "there is no folder nowhere"),
        (("paged", "orca-max", "--rate", "2"), "--rate has no effect on saved runs"),
        (("paged", "orca-max", "--dry-run"), "--dry-run has no effect on saved runs"),
        (("paged", "orca-max", "--gate", "tpots"), "there is no metric 'tpots'"),
        (("paged", "orca-max", "--metric", ","), "--metric names no metric"),
        (("paged", "orca-max", "--gate-single-pair"), "without --gate"),
        (("paged", "orca-max", "--threshold", "much"), "--threshold is a change"),
        (("paged", "orca-max", "--relevance", "5%"), "--relevance is a change such as 0.1% or 0, below"),
        (("--relevance", "1%"), "--relevance is for runs that are judged"),
        (("paged", "orca-max", "--across", "rate"), "--across takes"),
        (("paged", "orca-max", "--output", "paged"), "is not empty"),
        (("--system", "paged", "--gate", "tpot"), "one system has nothing to be compared with"),
        (("--threshold", "5%"), "--threshold is for runs that are judged"),
    ],
)
def test_wrong_usage_is_code_2(
    pagedbench: Command, systems: Path, arguments: tuple[str, ...], words: str
) -> None:
    answer = pagedbench("compare", *arguments)
    assert answer.code == 2
    assert words in answer.sentence


def test_a_damaged_run_is_one_sentence(pagedbench: Command, systems: Path) -> None:
    (systems / "orca-max" / "summary.json").write_text("{")
    answer = pagedbench("compare", "paged", "orca-max")
    assert answer.code == 2
    assert "summary.json is damaged" in answer.sentence


def test_a_foreign_folder_is_one_sentence(pagedbench: Command, systems: Path) -> None:
    (systems / "foreign").mkdir()
    (systems / "foreign" / "summary.json").write_text("[]")
    answer = pagedbench("compare", "paged", "foreign", "--output", "report")
    assert answer.code == 2
    assert "foreign is not a complete run" in answer.sentence
    assert not (systems / "report").exists()


def test_repeats_alternate() -> None:
    configs = [RunConfig(system=name) for name in ("paged", "orca-max")]
    order = [config.system for config in repeated(configs, 3)]
    assert order == ["paged", "orca-max", "orca-max", "paged", "paged", "orca-max"]


def test_simulated_repeats_have_seeds_of_their_own(pagedbench: Command, here: Path) -> None:
    arguments = (*SIMULATED, "--duration", "20", "--seed", "3,4", "--repeats", "2", "--output", "out")
    answer = pagedbench("run", *arguments)
    assert (answer.code, answer.err) == (0, "")
    seeds = sorted(
        int(path.name.partition("_s")[2].partition("_s")[2]) for path in (here / "out").iterdir()
    )
    assert seeds == [3, 4, 1003, 1004]
    assert "4 runs, seeds 3, 4, 1004, 1003" in answer.out
    summaries = [json.loads((path / "summary.json").read_text()) for path in (here / "out").iterdir()]
    values = [summary["latency"]["tpot_mean_ms"]["value"] for summary in summaries]
    low, high = Effect(tuple(values), is_ratio=False).interval()
    line = next(line for line in answer.out.splitlines() if "tpot_mean_ms" in line)
    assert f"{number(low)} to {number(high)}" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*SIMULATED, "--repeats", "2", "--rate", "inf"), "whose requests no seed changes"),
        ((*SIMULATED, "--repeats", "2", "--seed", "0,1000"), "one of these is also in --seed"),
        (("--repeats", "0"), "at least 1"),
    ],
)
def test_repeats_that_make_no_sense(pagedbench: Command, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench("run", *arguments)
    assert answer.code == 2
    assert words in answer.sentence
