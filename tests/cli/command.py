"""Runs the command line within the test's process, in an empty folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pagedbench.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIMULATED = ("--device", "sim:a100-40gb", "--model", "opt-13b")
"""A run in virtual time, of OPT-13B on an A100-40GB."""

QUICK = (*SIMULATED, "--duration", "20")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line that a refused command prints, without its "Error: "."""
        assert self.err.startswith("Error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("Error: ").rstrip()


def make_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """A function that runs `pagedbench` with its arguments."""

    def command(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        words = [str(argument) for argument in arguments]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["pagedbench", *words])  # manifests say what was typed
            with pytest.raises(SystemExit) as ending:
                main(words)
        printed = capsys.readouterr()
        assert isinstance(ending.value.code, int)
        return Answer(ending.value.code, printed.out, printed.err)

    return command
