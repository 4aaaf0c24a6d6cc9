"""What is wrong is refused before anything heavy is imported; help pages have groups and examples."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.cli.app import commands, load
from pagedbench.cli.commands import COMMANDS, DEBUG
from pagedbench.runs.options import with_switch_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

HEAVY = ("numpy", "pandas", "torch", "transformers", "datasets", "tokenizers", "scipy", "matplotlib")
WATCHED = f"""
import json, sys
from pagedbench.cli.app import main
answers = []
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        answers.append([end.code, [name for name in {HEAVY!r} if name in sys.modules]])
print(json.dumps(answers))
"""

REFUSED = (
    ("run", "--trace", "no.csv"),
    ("run", "--trace", "sharegtp"),
    ("run", "--trace", "full"),
    ("run", "--model", "nowhere/at/all"),
    ("run", "--model", "full"),
    ("run", "--model", "opt-125m,opt-14b"),
    ("run", "--config", "no.toml"),
    ("run", "--output", "full"),
    ("run", "--output", "file"),
    ("run", "--system", "paged,pagd"),
    ("run", "--system", "mine=nowhere:Class"),
    ("run", "--memory", "nowhere:Class"),
    ("run", "--device", "abacus"),
    ("run", "--device", "sim:no.json"),
    ("run", "--tokenizer", "/no/tokenizer.json"),
    ("run", *SIMULATED, "--trace", "no.csv"),
    ("run", *SIMULATED, "--model", "full"),
    ("compare", "--trace", "no.csv"),
    ("compare", "--system", "ft,pagd"),
    ("sweep", "--trace", "no.csv"),
    ("sweep", "--model", "opt-14b", "--output", "new"),
    ("kernels", "--device", "abacus"),
    ("calibrate", "--model", "opt-14b"),
)


def watched(commands: object, folder: Path) -> list[list[object]]:
    """The exit code of every command, and the heavy libraries that are there after it, in one process."""
    import json

    answer = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(commands)],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    found: list[list[object]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_what_is_wrong_is_said_before_libraries_are_imported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep").touch()
    for arguments, answer in zip(REFUSED, watched(REFUSED, tmp_path), strict=True):
        assert answer == [2, []], arguments
    assert {path.name for path in tmp_path.iterdir()} == {"file", "full"}


def test_help_pages_import_no_library(tmp_path: Path) -> None:
    pages = [["--help"], *([name, "--help"] for name in COMMANDS)]
    assert watched(pages, tmp_path) == [[0, []]] * len(pages)


def test_help_imports_no_command_and_a_command_no_other(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pagedbench.cli.app import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith(('pagedbench.cli', 'pagedbench.tools'))))"
    )
    spine = {"pagedbench.cli", "pagedbench.cli.app", "pagedbench.cli.commands"}
    explain = {"pagedbench.tools", "pagedbench.tools.explain", "pagedbench.tools.explain.command"}
    for arguments, own in (
        (["--help"], set()),
        (["run", "--help"], {"pagedbench.cli.run"}),
        (["explain", "--help"], explain),
    ):
        command = [sys.executable, "-c", script, *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert {*answer.stdout.splitlines()[-1].split()} == spine | own


def test_help_groups_the_commands_with_an_example_each(pagedbench: Command) -> None:
    page = pagedbench("--help").out
    assert "─ Commands ─" not in page
    groups = {entry.group for entry in COMMANDS.values()}
    for group in groups:
        assert f"─ {group} ─" in page
    assert page.count(" pagedbench ") > len(groups)
    assert DEBUG in " ".join(page.split())
    assert max(map(len, page.splitlines())) <= 80
    assert [*commands().commands] == [*COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_one_summary(pagedbench: Command, name: str) -> None:
    """The page of the command begins with the sentence that `pagedbench --help` shows of it."""
    entry = COMMANDS[name]
    pages = [pagedbench("--help").out, pagedbench(name, "--help").out]
    for page in pages:
        assert entry.summary in " ".join(page.replace("│", "").split())


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_on_the_page_and_can_be_typed(pagedbench: Command, name: str) -> None:
    page = pagedbench(name, "--help").out
    assert max(map(len, page.splitlines())) <= 80
    for example in COMMANDS[name].examples:
        assert f" pagedbench {example} " in page
        first, *arguments = with_switch_values(example.split())
        assert first == name
        with load(name).make_context(name, arguments):  # raises what the command line would refuse
            pass
