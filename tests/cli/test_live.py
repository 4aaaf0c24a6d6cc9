"""`compare` of programs and systems that run now: order, confirmation, reports, exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pagedbench as package
from cli.command import SIMULATED, Answer, make_command
from pagedbench.tools.compare import programs

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Answer]
    Pair = Callable[..., Answer]

FAKE = Path(__file__).with_name("fake_program.py")
REAL = ("--device", "cpu", "--load-format", "dummy", "--num-requests", "2", "--rate", "inf")
NOISE = (1.0, 1.01, 0.99, 1.005, 0.995)
SLOW = tuple(1.1 * factor for factor in reversed(NOISE))
REPORTS = {"comparison.json", "comparison.csv", "comparison.md"}
SHORT = (*SIMULATED, "--duration", "5", "--rate", "4")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in virtual time."""
    from runs.saved_runs import small_run

    return small_run(tmp_path_factory.mktemp("template") / "run").folder


@pytest.fixture
def pair(pagedbench: Command, here: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Compares a fake reference with a fake candidate; the fields of their scripts are given."""

    def compare(
        *options: str, reference: dict[str, Any], candidate: dict[str, Any], gate: str = "tpot"
    ) -> Answer:
        commands = []
        for name, script in (("reference", reference), ("candidate", candidate)):
            facts = {"name": name, "template": str(template), "log": str(here / "log"), **script}
            (here / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")
            commands.append([sys.executable, "-S", str(FAKE), str(here / f"{name}.json")])
        monkeypatch.setattr(programs, "own_command", lambda: commands[1])
        asked = ("--gate", gate) if gate else ()
        return pagedbench(
            "compare", "--reference", " ".join(commands[0]), *REAL, *asked, "--output", "out", *options
        )

    return compare


def runs_of(here: Path) -> list[str]:
    """Every run in the order in which it was made: "first/reference/01"."""
    lines = (here / "log").read_text(encoding="utf-8").splitlines()
    return [line.partition(" ")[2].removeprefix("out/") for line in lines]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def document(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "comparison.json").read_text(encoding="utf-8")))


def test_turns_are_there_and_back_and_an_equal_program_passes(pair: Pair, here: Path) -> None:
    answer = pair(reference={"tpots": NOISE}, candidate={"tpots": NOISE})
    assert answer.code == 0
    order = "reference/01 candidate/01 candidate/02 reference/02 reference/03 candidate/03 candidate/04"
    assert runs_of(here)[:7] == [f"first/{name}" for name in order.split()]
    assert len(runs_of(here)) == 10
    assert names(here / "out") >= REPORTS
    assert document(here / "out")["candidates"][0]["num_pairs"] == 5
    assert "[first] reference, run 1 of 10\n" in answer.err
    assert "[first] candidate, run 2 of 10: about " in answer.err
    assert not (here / "out" / "fresh").exists()


def test_pairs_are_of_one_repeat(pair: Pair, here: Path) -> None:
    """Runs that differ by far, but equally on both sides, are no noise if repeat i meets repeat i."""
    wild = (1.0, 2.0, 4.0)
    pair("--repeats", "3", reference={"tpots": wild}, candidate={"tpots": wild})
    (finding,) = [f for f in document(here / "out")["findings"] if f["metric"] == "tpot_p50_ms"]
    assert finding["interval_95"] == pytest.approx([0, 0], abs=1e-9)


def test_a_regression_that_is_confirmed_is_code_3(pair: Pair, here: Path) -> None:
    answer = pair(reference={"tpots": NOISE * 2}, candidate={"tpots": SLOW * 2})
    assert answer.code == 3
    assert runs_of(here)[10:13] == ["fresh/reference/01", "fresh/candidate/01", "fresh/candidate/02"]
    assert len(runs_of(here)) == 20
    assert "Suspected, and to be confirmed by as many fresh runs: Gate failed: 1 regression" in answer.err
    assert "confirmed: tpot_p50_ms was 10 % worse in the first 5 pairs, and 10 % worse" in answer.out
    assert names(here / "out") >= REPORTS
    assert names(here / "out" / "first") == REPORTS
    assert document(here / "out")["verdict"] == document(here / "out" / "first")["verdict"] == "regression"


def test_a_suspicion_is_judged_on_fresh_runs_alone(pair: Pair, here: Path) -> None:
    """Of all ten pairs the mean would be 9 % worse, and significant; of the fresh ones it is 0.5 %."""
    worse = tuple(1.18 * factor for factor in NOISE)
    fresh = tuple(1.005 * factor for factor in reversed(NOISE))
    answer = pair(reference={"tpots": NOISE * 2}, candidate={"tpots": worse + fresh})
    assert answer.code == 0
    sentence = (
        "candidate: suspected, not confirmed: tpot_p50_ms was 18 % worse in the first 5 pairs, "
        "and 0.5 % worse in as many fresh ones."
    )
    assert sentence in document(here / "out")["remarks"]
    assert sentence in (here / "out" / "comparison.md").read_text(encoding="utf-8")
    assert sentence in " ".join(answer.out.split())
    assert document(here / "out")["verdict"] == "passed"
    assert document(here / "out" / "first")["verdict"] == "regression"
    (finding,) = [f for f in document(here / "out")["findings"] if f["metric"] == "tpot_p50_ms"]
    assert finding["num_pairs"] == 5


def test_a_document_on_stdout_is_one(pair: Pair, here: Path) -> None:
    answer = pair("--format", "json", reference={"tpots": NOISE * 2}, candidate={"tpots": SLOW * 2})
    assert answer.code == 3
    assert json.loads(answer.out) == document(here / "out")


def test_without_a_gate_nothing_fails(pair: Pair, here: Path) -> None:
    answer = pair(gate="", reference={"tpots": NOISE}, candidate={"tpots": SLOW})
    assert answer.code == 0
    assert document(here / "out")["verdict"] == "compared"


def test_a_program_that_crashes_is_code_1_and_ends_it(pair: Pair, here: Path) -> None:
    failure = [1, "Error: the run could not be saved in out: no space left on device"]
    answer = pair(reference={"tpots": NOISE}, candidate={"tpots": NOISE, "fail": {"1": failure}})
    assert answer.code == 1
    assert (
        "Error: candidate, run 3 of 10: it ended with exit code 1: the run could not be saved in out: "
        "no space left on device\n" in answer.err
    )
    assert len(runs_of(here)) == 3
    assert (here / "out" / "first" / "reference" / "01" / "manifest.json").exists()


def test_a_program_that_is_killed_is_code_1(pair: Pair) -> None:
    answer = pair(reference={"tpots": NOISE, "fail": {"0": [-9, "bye"]}}, candidate={"tpots": NOISE})
    assert answer.code == 1
    assert "was killed by signal 9: bye" in answer.err


def test_a_program_that_refuses_is_code_2(pair: Pair, here: Path) -> None:
    failure = [2, "Error: there is no model 'opt-125m'"]
    answer = pair(reference={"tpots": NOISE, "fail": {"0": failure}}, candidate={"tpots": NOISE})
    assert answer.code == 2
    assert "Error: the reference refused these options: there is no model 'opt-125m'\n" in answer.err


def test_an_interrupt_reaches_the_child_and_is_code_130(pair: Pair, here: Path) -> None:
    answer = pair(reference={"tpots": NOISE}, candidate={"tpots": NOISE, "fail": {"0": [130, "wait"]}})
    assert answer.code == 130
    assert (
        "Interrupted in run 2 of 10: nothing is judged; the runs that have ended are in out" in answer.err
    )
    assert (here / "out" / "first" / "reference" / "01" / "manifest.json").exists()
    assert not names(here / "out")


def test_runs_of_another_pool_are_code_6_after_one_pair(pair: Pair, here: Path) -> None:
    answer = pair(reference={"tpots": NOISE}, candidate={"tpots": NOISE, "plan": {"kv_slots": 999}})
    assert answer.code == 6
    assert len(runs_of(here)) == 2
    assert "pool: 15,696 tokens | 999 tokens" in answer.out
    assert names(here / "out") >= REPORTS


@pytest.mark.parametrize(
    ("script", "words"),
    [({"lacks": ["tpot_p50_ms"]}, "no tpot_p50_ms"), ({"schema_version": 99}, "schema version 99")],
)
def test_runs_of_another_version_are_code_6(pair: Pair, script: dict[str, Any], words: str) -> None:
    answer = pair(reference={"tpots": NOISE, **script}, candidate={"tpots": NOISE})
    assert answer.code == 6
    assert "Error: a run of the reference cannot be compared: " in answer.err
    assert words in answer.err


def test_a_metric_that_is_only_shown_may_be_missing(pair: Pair, here: Path) -> None:
    answer = pair(
        reference={"tpots": NOISE, "lacks": ["itl_p99_ms"]}, candidate={"tpots": NOISE}, gate="tpot"
    )
    assert answer.code == 0
    (finding,) = [f for f in document(here / "out")["findings"] if f["metric"] == "itl_p99_ms"]
    assert finding["verdict"] == "not defined"


def test_options_are_resolved_and_the_same_for_both(pair: Pair, here: Path) -> None:
    pair("--repeats", "2", "--kv-slots", "4001", reference={"tpots": NOISE}, candidate={"tpots": NOISE})
    asked = [
        (here / "out" / "first" / side / "01" / "asked.toml").read_text(encoding="utf-8")
        for side in ("reference", "candidate")
    ]
    assert set(asked[0].splitlines()) < set(asked[1].splitlines())  # the fake knows fewer options
    assert "kv_slots = 4000" in asked[0]  # resolved: whole blocks


def test_an_option_that_the_reference_lacks_is_code_2_where_it_was_asked_for(pair: Pair) -> None:
    lacking = {"tpots": NOISE, "lacks": ["--kv-slots"]}
    answer = pair("--kv-slots", "4001", reference=lacking, candidate={"tpots": NOISE})
    assert answer.code == 2
    assert "--reference does not know --kv-slots" in answer.sentence


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nowhere", "there is no program nowhere"),
        ("/", "cannot be started: permission denied"),
        ("true", "--reference is not a pagedbench"),
        ("'", "cannot be read as a command"),
        ("", "names no command"),
    ],
)
def test_commands_that_cannot_be(pagedbench: Command, here: Path, command: str, words: str) -> None:
    answer = pagedbench("compare", "--reference", command, *SHORT)
    assert answer.code == 2
    assert words in answer.sentence
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gate", "tpot", "--system", "paged"), "one system has nothing to be compared with"),
        (("--gate", "tpot", "--repeats", "0"), "--repeats must be at least 1"),
        (("--gate", "tpot", "--repeats", "2"), "--repeats has no effect on a simulated device"),
        (("--gate", "nonsense"), "there is no metric 'nonsense'"),
        (("--gate", "tpot", "--threshold", "-5%"), "--threshold is a change"),
    ],
)
def test_wrong_usage_is_code_2(pagedbench: Command, options: tuple[str, ...], words: str) -> None:
    answer = pagedbench("compare", *SHORT, *options)
    assert answer.code == 2
    assert words in answer.sentence


def test_one_measured_pair_is_not_gated(pagedbench: Command, here: Path) -> None:
    answer = pagedbench("compare", *REAL, "--system", "paged,orca-max", "--gate", "tpot", "--repeats", "1")
    assert answer.code == 2
    assert "--gate does not judge a single pair" in answer.sentence


def test_systems_in_virtual_time_need_no_confirmation(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(
        "compare", *SHORT, "--system", "paged,orca-max", "--gate", "ttft_mean", "--output", "out"
    )
    assert answer.code == 3
    assert answer.out.startswith("Gate failed: 1 regression, the worst in ttft_mean_ms")
    assert {path.name for path in (here / "out").iterdir() if path.is_dir()} == {"first"}
    assert names(here / "out") >= REPORTS


def test_several_workloads_are_groups(pagedbench: Command, here: Path) -> None:
    options = ("--system", "orca-max,paged", "--seed", "0,1", "--gate", "ttft_mean", "--output", "out")
    answer = pagedbench("compare", *SIMULATED, "--duration", "5", "--rate", "2,4", *options)
    assert answer.code == 0
    found = {item["group"] for item in document(here / "out")["findings"]}
    assert found == {"rate 2", "rate 4"}
    assert document(here / "out")["candidates"][0]["num_pairs"] == 4
    folders = {path.name for path in (here / "out" / "first" / "paged").iterdir()}
    assert folders == {f"sharegpt_r{rate}_s{seed}_01" for rate in (2, 4) for seed in (0, 1)}


def test_an_earlier_verdict_does_not_outlive_it(pair: Pair, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "comparison.json").write_text("{}", encoding="utf-8")
    failure = {"tpots": NOISE, "fail": {"0": [1, "Error: no"]}}
    assert pair("--force", reference=failure, candidate={"tpots": NOISE}).code == 1
    assert not names(here / "out")


def test_a_dry_run_starts_nothing(pair: Pair, here: Path) -> None:
    answer = pair("--dry-run", reference={"tpots": NOISE}, candidate={"tpots": NOISE})
    assert answer.code == 0
    assert not (here / "log").exists()


def test_a_real_program_against_itself(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(package.__file__).parents[1]))
    command = f"{sys.executable} -m pagedbench"
    answer = make_command(capsys)("compare", "--reference", command, *SHORT, "--gate", "tpot")
    assert answer.code == 0
    (folder,) = (here / "results").iterdir()
    assert document(folder)["verdict"] == "passed"
    assert {item["verdict"] for item in document(folder)["findings"]} == {"equal", "not defined"}
