"""A saved run as the result file of `vllm bench serve --save-result --save-detailed`, by its field names.

Fields that were not kept are missing: gaps between single tokens (`itls`, `median_itl_ms`, `std_itl_ms`),
texts, the tokenizer, and the peaks by second. Times run from the scheduled arrival, whereas vLLM's begin
when its client sends; a duration ends with the last completion, as vLLM's does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.file_names import compact_time

if TYPE_CHECKING:
    import pandas as pd

    from pagedbench.runs.saved import SavedRun

Document = dict[str, object]

COLUMNS = {"ttft": ("ttft_ms", 1.0), "tpot": ("tpot_ms", 1.0), "e2el": ("e2el_s", 1000.0)}
"""Latency -> its column in requests.csv, and the factor to milliseconds."""

FAILED = "could never fit the KV pool"


def vllm_lines(runs: list[SavedRun]) -> str:
    """One line per run, as `vllm bench serve --append-result` writes them; a single line is a JSON file.

    Raises:
        ConfigError: a run did not end, or its tables are damaged.
    """
    return "".join(json.dumps(vllm_result(run), ensure_ascii=False, allow_nan=False) + "\n" for run in runs)


def vllm_result(run: SavedRun) -> Document:
    """The fields of one run that ended.

    Raises:
        ConfigError: it did not end, or its tables are damaged.
    """
    if not run.is_complete:
        raise ConfigError(f"{run.folder} is {run.status}: vLLM's tools need the result of a run that ended")
    table = run.requests
    done = table[table["status"] != "failed"]
    return {
        **_identity(run),
        **_totals(run, done),
        **{name: value for name, value in _latencies(run, done).items() if value is not None},
        **_by_request(table),
    }


def _identity(run: SavedRun) -> Document:
    """What ran. Fields that vLLM does not have are metadata to its tools, which say what this is."""
    plan, config = run.manifest["plan"], run.config
    identity: Document = {
        "date": compact_time(str(run.manifest["started"])),
        "endpoint_type": "pagedbench",
        "backend": "pagedbench",
        "label": config.get("label"),
        "model_id": plan["model"],
        "num_prompts": run.values["num_requests"],
        "max_concurrency": None,
        "system": run.system,
        "device": plan["device"],
        "is_simulated": str(config.get("device")).startswith("sim:"),
        "weights": plan["weights"],
        "trace": run.manifest["trace"]["name"],
        "run_id": run.manifest["run_id"],
    }
    if run.rate is not None:
        identity["request_rate"] = "inf" if run.rate == float("inf") else run.rate
    if config["arrival"] in ("poisson", "gamma"):
        identity["burstiness"] = config["burstiness"]
    return identity


def _totals(run: SavedRun, done: pd.DataFrame) -> Document:
    """Counts and throughput; output tokens include all samples or beams."""
    values = run.values
    totals: Document = {
        "duration": values["duration_s"],
        "completed": values["completed"],
        "failed": values["failed"],
        "total_input_tokens": int(done["prompt_len"].sum()),
        "total_output_tokens": int((done["output_len"] * done["n"]).sum()),
        "request_goodput": values["goodput"],
    }
    names = ("request_throughput", "output_throughput", "total_token_throughput")
    return totals | {name: values[name] for name in names}


def _latencies(run: SavedRun, done: pd.DataFrame) -> Document:
    """Latencies in milliseconds, None if there are none; population standard deviations, like vLLM's."""
    found: Document = {}
    for name, (column, scale) in COLUMNS.items():
        times = scale * done[column].dropna()
        if len(times):
            found[f"mean_{name}_ms"] = float(times.mean())
            found[f"median_{name}_ms"] = float(times.median())
            found[f"std_{name}_ms"] = float(times.std(ddof=0))
            found[f"p99_{name}_ms"] = float(times.quantile(0.99))
    return found | {f"{kind}_itl_ms": run.values[f"itl_{kind}_ms"] for kind in ("mean", "p99")}


def _by_request(table: pd.DataFrame) -> Document:
    """Lists in the order of request ids; a failed request has no output and the time 0, as in vLLM."""
    is_done = table["status"] != "failed"
    return {
        "input_lens": table["prompt_len"].tolist(),
        "output_lens": (table["output_len"] * table["n"]).where(is_done, 0).tolist(),
        "ttfts": (table["ttft_ms"] / 1000).where(is_done, 0.0).tolist(),
        "errors": ["" if done else FAILED for done in is_done],
    }
