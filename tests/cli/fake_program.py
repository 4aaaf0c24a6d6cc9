"""A stand-in for `pagedbench run` without work: copies of a saved run, with times per token of their own.

    python fake_program.py SCRIPT run --config FILE --output FOLDER

SCRIPT is JSON: `template`, a run folder; `name`; `log`, a file that gets a line a run; `tpots`, a factor of
each run in turn; `fail`, run number -> [exit code, message]; `lacks`, options and columns that it has not.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

OPTIONS = (
    *("--config", "--output", "--system", "--device", "--load-format"),
    *("--rate", "--num-requests", "--kv-slots", "--label"),
)


def main() -> int:
    script = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "--help" in sys.argv:
        print("\n".join(name for name in OPTIONS if name not in script.get("lacks", ())))
        return 0
    log = Path(script["log"])
    number = sum(line.startswith(f"{script['name']} ") for line in _lines(log))
    folder = Path(sys.argv[sys.argv.index("--output") + 1])
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{script['name']} {folder}\n")
    code, message = script.get("fail", {}).get(str(number), (0, ""))
    if code:
        print(message, file=sys.stderr)
    if code < 0:
        os.kill(os.getpid(), -code)
    if message == "wait":
        _wait_for_interrupt()
    if code:
        return int(code)
    shutil.copytree(script["template"], folder)
    shutil.copy(sys.argv[sys.argv.index("--config") + 1], folder / "asked.toml")
    _edit(folder, script, script["tpots"][number])
    return 0


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _wait_for_interrupt() -> None:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)


def _edit(folder: Path, script: dict[str, Any], factor: float) -> None:
    """As a CPU would leave it: in wall time, and with another time per token."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["latency"]["tpot_p50_ms"]["value"] *= factor
    for name in script.get("lacks", ()):
        summary["latency"].pop(name, None)
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["plan"].update(device="cpu", **script.get("plan", {}))
    manifest["schema_version"] = script.get("schema_version", manifest["schema_version"])
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    config = (folder / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(config.replace('"sim:a100-40gb"', '"cpu"'), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
