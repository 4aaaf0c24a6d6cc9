"""`pagedbench calibrate`: measure, save, and use the profile as a device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from models.folders import make_opt_folder
from pagedbench.loadgen.protocols.api import Api
from pagedbench.tools.calibrate.fitting import Errors
from remote.fake_server import FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]


def test_a_calibrated_machine_is_a_device(
    pagedbench: Command, here: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tools.calibrate.block_size_times", "runs.memory_bandwidth"):
        monkeypatch.setattr(f"pagedbench.{module}.rotation_bytes", lambda device: 2**20)
    model = make_opt_folder(here / "model")
    quick = ("--kv-slots", "2048", "--rounds", "1", "--replay", "3", "--dtype", "float32")
    answer = pagedbench("calibrate", "--model", model, "--device", "cpu", *quick)
    assert answer.code == 0, answer.err
    for expected in (
        "held out",
        "half load",
        "double load",
        "tpot_p50_ms",
        "sim:calibration_model_float32",
    ):
        assert expected in answer.out
    saved = json.loads((here / "calibration_model_float32.json").read_text())
    assert saved["machine"]["cpu"]
    assert saved["versions"]["pagedbench"]
    assert {"fit", "held_out"} == saved["errors"].keys()
    assert len(saved["replays"]) == 3
    assert saved["block_size"] == 16
    assert {1, 8, 16, 128} <= {size for size, _ in saved["paged_over_contiguous"]}
    assert [path.name for path in here.iterdir() if "incomplete" in path.name] == []

    device = ("--device", "sim:calibration_model_float32.json", "--trace", "t.csv", "--rate", "inf")
    (here / "t.csv").write_text("prompt_len,output_len\n50,6\n90,30\n")
    answer = pagedbench("compare", *device, "--model", model, "--kv-slots", "2048", "--format", "json")
    assert answer.code == 0, answer.err
    answer = pagedbench(
        "run", *device, "--model", model, "--kv-slots", "2048", "--block-size", "8", "--dry-run"
    )
    assert "contiguous at blocks of 8; measured on that machine" in " ".join(answer.out.split())
    answer = pagedbench("run", *device, "--model", "opt-125m")
    assert (answer.code, "calibrate again" in answer.sentence) == (2, True)
    answer = pagedbench("run", *device, "--model", model, "--dtype", "bfloat16")
    assert (answer.code, "was measured in float32" in answer.sentence) == (2, True)
    answer = pagedbench("run", *device, "--model", model, "--cost-model", "roofline")
    assert (answer.code, "no effect on a measured profile" in answer.sentence) == (2, True)
    answer = pagedbench("calibrate", "--model", model, "--device", "cpu", *quick)
    assert (answer.code, "--force" in answer.sentence) == (2, True)


def test_operator_times_are_fitted(
    pagedbench: Command, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagedbench.tools.calibrate.operator_fit.RANKS", (4,))  # the others elsewhere
    answer = pagedbench("calibrate", "--operator-times", test_data / "a100-operator-times")
    assert answer.code == 0, answer.err
    assert "bandwidth=0.88255" in answer.out  # as committed
    assert "llama-2-70b on 4" in answer.out


def test_tables_of_todays_kernels_are_fitted(
    pagedbench: Command, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few rows of one card: with all of them it takes minutes. They have no whole steps."""
    steps = {("h100", 4): Errors(9, 0.0123, 0.2)}
    monkeypatch.setattr("pagedbench.tools.calibrate.decode_steps.decode_step_errors", lambda _: steps)
    monkeypatch.setattr("pagedbench.tools.calibrate.kernel_fit.FOLDERS", {"h100": "h100_sxm"})
    (tmp_path / "h100_sxm").mkdir()
    for path in (test_data / "operator-times-2026" / "h100_sxm").glob("*.parquet"):
        table = pd.read_parquet(path)
        table.sample(min(len(table), 300), random_state=0).to_parquet(tmp_path / "h100_sxm" / path.name)
    answer = pagedbench("calibrate", "--operator-times", tmp_path)
    assert answer.code == 0, answer.err
    assert "GemmTimes(launch=" in answer.out
    assert "h100, all-reduce, eager" in answer.out
    assert "h100, 4 ranks" in answer.out
    assert "1.2%" in answer.out
    (tmp_path / "h100_sxm" / "gemm_perf.parquet").unlink()
    assert "aiconfigurator" in pagedbench("calibrate", "--operator-times", tmp_path).sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--device", "sim:h100"), "calibrate measures a real device"),
        (("--operator-times", "nowhere"), "Vidur's operator times"),
        (("--operator-times", "nowhere", "--rounds", "3"), "--rounds has no effect"),
        (("--output", "."), "is a folder"),
        (("--output", "no/where.json"), "choose another --output"),
        (("--model", "opt-14b"), "opt-13b"),
        (("--duration", "20"), "--duration needs --base-url"),
        (("--base-url", "http://localhost:9", "--rounds", "2"), "--rounds has no effect with --base-url"),
        (("--base-url", "http://localhost:9", "--duration", "3"), "at least 10 seconds, not 3"),
        (("--base-url", "http://localhost:9", "--duration", "inf"), "at least 10 seconds, not inf"),
        (("--base-url", "http://localhost:9", "--max-num-seqs", "0"), "--max-num-seqs must be at least 1"),
        (("--base-url", "http://localhost:9", "--output", "."), "is a folder"),
        (("--base-url", "http://localhost:9"), "cannot be reached"),
        (("--base-url", "somewhere"), "must look like http://HOST:PORT"),
    ],
)
def test_what_cannot_be_calibrated(pagedbench: Command, arguments: tuple[str, ...], message: str) -> None:
    answer = pagedbench("calibrate", *arguments)
    assert answer.code == 2
    assert message in answer.sentence


def test_a_server_that_refuses_is_not_measured(pagedbench: Command, here: Path) -> None:
    with serving(FakeServer(Api.VLLM, status=503)) as server:
        answer = pagedbench(
            "calibrate", "--base-url", server.base_url, "--model", "opt-125m", "--kv-slots", "4096"
        )
    assert answer.code == 2
    assert "does not answer the warm-up" in answer.err
    assert not list(here.iterdir())


def test_the_pool_of_a_server_must_be_known(pagedbench: Command) -> None:
    with serving(FakeServer(Api.VLLM)) as server:
        answer = pagedbench("calibrate", "--base-url", server.base_url, "--model", "opt-125m")
        assert "give --kv-slots" in answer.sentence
        assert not server.asked
