"""The GitHub Action: it parses, gives inputs to commands and options that exist, and tells the verdict."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pagedbench.cli.app import main

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
ACTION = ROOT / ".github" / "actions" / "pagedbench" / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

pytestmark = [
    pytest.mark.skipif(not ACTION.is_file(), reason="not in a source tree"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash"),
]

FAKE_PYTHON = '#!/bin/sh\nprintf "%s\\n" "$@" > "$SEEN"\nexit "$FAKE_CODE"\n'


def action() -> dict[str, Any]:
    document = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def script() -> tuple[str, set[str]]:
    """The step that runs pagedbench, and the variables that it is given."""
    (step,) = [step for step in action()["runs"]["steps"] if step.get("id") == "pagedbench"]
    return step["run"], set(step["env"])


def run_step(folder: Path, code: int = 0, **inputs: str) -> tuple[int, list[str], dict[str, str]]:
    """Run it with a python that only writes down its arguments: exit code, arguments, outputs."""
    text, names = script()
    (folder / "python").write_text(FAKE_PYTHON)
    (folder / "python").chmod(0o755)
    values = dict.fromkeys(names, "") | {"COMMAND": "check", "OUTPUT": "report"} | inputs
    assert set(values) == names
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SEEN": str(folder / "seen"),
        "FAKE_CODE": str(code),
        "GITHUB_OUTPUT": str(folder / "outputs"),
        **values,
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.stderr == ""
    seen, outputs = folder / "seen", folder / "outputs"
    arguments = seen.read_text().splitlines() if seen.exists() else []
    lines = outputs.read_text().splitlines() if outputs.exists() else []
    return done.returncode, arguments, dict(line.split("=", 1) for line in lines)


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main([command, "--help"])
    assert ending.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("inputs", "arguments"),
    [
        ({}, ["check", "--output", "report", "--force"]),
        ({"BASELINE": "b c.json"}, ["check", "--output", "report", "--force", "--baseline", "b c.json"]),
        ({"OPTIONS": "--wall"}, ["check", "--wall", "--output", "report", "--force"]),
        (
            {
                "COMMAND": "compare",
                "BASELINE": "old",
                "CANDIDATE": "new",
                "GATE": "tpot",
                "THRESHOLD": "5%",
            },
            [
                "compare",
                "old",
                "new",
                "--output",
                "report",
                "--force",
                "--gate",
                "tpot",
                "--threshold",
                "5%",
            ],
        ),
    ],
)
def test_inputs_become_options_that_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inputs: dict[str, str], arguments: list[str]
) -> None:
    code, seen, outputs = run_step(tmp_path, **inputs)
    assert (code, seen) == (0, ["-m", "pagedbench", *arguments])
    assert outputs == {"verdict": "passed", "exit-code": "0"}
    text = help_of(arguments[0], capsys)
    for option in (word for word in arguments if word.startswith("--")):
        assert re.search(rf"{option}\b", text), f"{arguments[0]} has no {option}"


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(1, "crashed"), (2, "bad-input"), (3, "regression"), (5, "invalid"), (6, "not-comparable")],
)
def test_the_verdict_is_an_output_and_the_code_is_kept(tmp_path: Path, code: int, verdict: str) -> None:
    returned, _, outputs = run_step(tmp_path, code)
    assert (returned, outputs) == (code, {"verdict": verdict, "exit-code": str(code)})


def test_another_command_is_refused(tmp_path: Path) -> None:
    assert run_step(tmp_path, COMMAND="run; rm") == (2, [], {})


def test_every_reference_is_declared() -> None:
    document = action()
    text = ACTION.read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(document["inputs"])
    ids = {step.get("id") for step in document["runs"]["steps"]}
    assert set(re.findall(r"steps\.(\w+)\.outputs", text)) <= ids
    for step in document["runs"]["steps"]:
        assert "uses" in step or step["shell"] == "bash"
        assert "${{" not in step.get("run", ""), "an input inside a script could be a command"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_inputs_that_exist(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    own = [step for step in steps if str(step.get("uses", "")).startswith("./")]
    assert own, "the project checks itself through its own action"
    for step in own:
        assert (ROOT / step["uses"] / "action.yml").is_file()
        assert set(step.get("with", {})) <= set(action()["inputs"])
