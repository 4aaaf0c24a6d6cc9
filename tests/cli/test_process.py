"""What only a real process shows: its start, its pipes, its signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cli.command import QUICK, SIMULATED

COMMAND = (sys.executable, "-m", "pagedbench")
LONG = ("run", *SIMULATED, "--duration", "20000", "--system", "orca-max", "--output", "out")
"""Half a minute of work, unless it is stopped."""


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", **changes}


def test_help_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from pagedbench.cli.app import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'pandas', 'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_simulation_runs_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pagedbench.cli.app import main\n"
        f"try: main(['run', *{QUICK!r}])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_module_and_version() -> None:
    answer = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("pagedbench 0.")


def test_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_runs_go_on_without_a_reader(tmp_path: Path) -> None:
    command = [*COMMAND, "run", *QUICK, "--system", "paged,orca-max", "--output", "out"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert len(list((tmp_path / "out").glob("*/manifest.json"))) == 2


def test_closed_stdout(tmp_path: Path) -> None:
    command = " ".join([*COMMAND, "run", *QUICK, "--output", "out", ">&-"])
    answer = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, cwd=tmp_path, env=environment())
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_class_in_the_current_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from pagedbench.memory.paged import Paged\nclass Own(Paged): ...\n")
    code = "import sys; sys.path.remove(''); from pagedbench.cli.app import main; main(sys.argv[1:])"
    own = ("--memory", "mine:Own", "--output", "out")
    command = [sys.executable, "-c", code, "run", *QUICK, *own]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert answer.returncode == 0, answer.stderr
    assert '"memory": "mine:Own"' in (tmp_path / "out" / "manifest.json").read_text()


def test_ascii_terminal_gets_ascii(tmp_path: Path) -> None:
    answer = subprocess.run(
        [*COMMAND, "run", *QUICK],
        capture_output=True,
        cwd=tmp_path,
        env=environment(PYTHONIOENCODING="ascii"),
    )
    assert answer.returncode == 0
    assert answer.stdout.isascii()
    assert b"####" in answer.stdout


BREAKS_AFTER_A_WHILE = """
from pagedbench.memory.paged import Paged

class Manager(Paged):
    def advance(self, num_sequences):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 100:
            raise RuntimeError("out of luck")
        super().advance(num_sequences)
"""


def test_a_run_that_crashes_is_a_row_with_a_status(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BREAKS_AFTER_A_WHILE)
    answer = subprocess.run(
        [*COMMAND, "run", *QUICK, "--system", "a=broken:Manager,b=broken:Manager", "--output", "out"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert answer.returncode == 1
    assert answer.stderr.count("Error: crashed with RuntimeError: out of luck") == 2  # the second ran too
    assert answer.stdout.count("Crashed: ") == 2
    for folder in (tmp_path / "out").iterdir():
        manifest = json.loads((folder / "manifest.json").read_text())
        assert (manifest["status"], manifest["valid"]) == ("crashed", False)
        place = "(broken.py:8, in advance)"
        assert f"it crashed with RuntimeError: out of luck {place}" in manifest["invalid_because"]
        assert len((folder / "steps.csv").read_text().splitlines()) > 50


def test_crash_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('out of luck')\n")
    command = [*COMMAND, "run", *QUICK, "--memory", "broken:Manager"]
    search = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    quiet = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(**search))
    assert quiet.returncode == 1
    assert quiet.stderr.count("\n") == 1
    assert "RuntimeError: out of luck" in quiet.stderr
    search["PAGEDBENCH_DEBUG"] = "1"
    loud = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment(**search))
    assert "Traceback" in loud.stderr


def let_work(process: subprocess.Popen[str], seconds: float) -> None:
    """Until it has had the processor for so long, whatever else runs; without /proc, at least so long."""
    times = Path(f"/proc/{process.pid}/stat")
    if not times.exists():
        time.sleep(seconds)
        return

    def ticks() -> int:
        return sum(map(int, times.read_text().rpartition(")")[2].split()[11:13]))  # user and system

    end = ticks() + seconds * os.sysconf("SC_CLK_TCK")
    while ticks() < end and process.poll() is None:
        time.sleep(0.02)


def interrupted(folder: Path, *signals: signal.Signals) -> subprocess.CompletedProcess[str]:
    """The long run, signalled once it goes."""
    with subprocess.Popen(
        [*COMMAND, *LONG, "--progress", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Arrivals"):
                break
        let_work(process, 0.5)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.02)
        out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_first_interrupt_saves_what_has_ended(tmp_path: Path) -> None:
    answer = interrupted(tmp_path, signal.SIGINT)
    assert answer.returncode == 130
    assert "Stopping after this iteration" in answer.stderr
    assert "Saved to out" in answer.stdout
    assert '"status": "interrupted"' in (tmp_path / "out" / "manifest.json").read_text()
    assert len((tmp_path / "out" / "requests.csv").read_text().splitlines()) > 1


def test_termination_saves_too(tmp_path: Path) -> None:
    assert interrupted(tmp_path, signal.SIGTERM).returncode == 130
    assert (tmp_path / "out" / "manifest.json").exists()


def test_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    answer = interrupted(tmp_path, signal.SIGINT, signal.SIGINT)
    assert answer.returncode == 130
    assert "Traceback" not in answer.stderr
    assert not [path for path in tmp_path.iterdir() if not (path / "manifest.json").exists()]
