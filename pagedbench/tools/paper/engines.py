"""Compares the simulator with published figures of whole engines: throughput, and times to first token."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.clock import utc_text
from pagedbench.config import ConfigError, RunConfig
from pagedbench.metrics.formulas import summarize
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.runs.files import check_folder, csv_text, json_text, write_files
from pagedbench.runs.machine import provenance
from pagedbench.show.console import stdout_console
from pagedbench.show.table import Column, Table, markdown_table, print_table
from pagedbench.simulation.batch_costs import BatchCosts
from pagedbench.simulation.modern import KernelCosts
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pagedbench.metrics.formulas import Value
    from pagedbench.plan import Plan

THROUGHPUTS = {
    "output_tokens_per_s": "output_throughput",
    "tokens_per_s_in_and_out": "total_token_throughput",
}
FIRST_TOKEN = "first_token_s"

FULL_LOAD_TOKENS = 8_000_000
"""Output tokens of a run at full load: enough to make its beginning and end negligible."""

ENGINES = ("vLLM 0.1.2", "TensorRT-LLM 0.17", "LMDeploy 0.1.0a1")

HOSTS = {"host_x_0.5": (0.5, 0.0), "host_x_2": (2.0, 0.0), "host_plus_1_ms": (1.0, 1e-3)}
"""Name -> factor of the host time, and seconds that are added to it in each iteration."""

TITLE = """# Published figures of whole engines, and the simulator's

vLLM 0.1.2 with the cost model vllm-2023, the others with modern, which knows no engine's own kernels. The
ratio is simulated / published. A static batch's first tokens count from the arrival of the last one.

The last three columns of the first table are the median with another host time than the cost model's, which
is 4 ms per iteration and 0.225 ms per request in vllm-2023, and 0 in modern.

Where the ratio is far from 1:

- LMDeploy, first tokens of 1-token prompts, batches of 16 to 64: published are 1.6 to 3.2 steps of the
  batch (once 6.9). Threads submit the requests one by one, so most of them presumably wait for the step of
  the first ones, which is not simulated. Compared with longer prompts that step is short.
- LMDeploy, llama-2-7b, 2048 tokens, batch 16: the published first token takes 0.78 to 0.84 of
  llama-2-13b's, at 0.52 of its arithmetic. No kernel explains both figures.
- LMDeploy, llama-2-7b, 1-token prompts, batches of 32 and 64: 1.2 to 1.3 times slower than simulated, where
  llama-2-13b is 1.1 times faster: presumably the host, which has no time in this cost model.
"""


@dataclass(frozen=True, slots=True)
class Published:
    """One published figure. Lengths in tokens; `output_len` and `load` in the words of their source."""

    source: str
    model: str
    card: str
    tensor_parallel: str
    prompt_len: str
    output_len: str
    load: str
    metric: str
    value: str

    @property
    def engine(self) -> str:
        """The engine's name and version; a row that refers to another's set-up has the other's."""
        return next((name for name in ENGINES if self.source.startswith(name)), ENGINES[0])

    @property
    def setup(self) -> tuple[str, ...]:
        """What is run: rows that differ only in their metric share it."""
        return (self.engine, self.model, self.card, self.tensor_parallel, self.prompt_len, self.output_len,
                self.load)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """A published figure and the simulated one, in the same unit; `by_host`: with each of `HOSTS`."""

    published: Published
    simulated: float
    by_host: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """Simulated / published."""
        return self.simulated / float(self.published.value)

    @property
    def ratio_by_host(self) -> dict[str, float]:
        """The ratio with each of `HOSTS`."""
        return {name: value / float(self.published.value) for name, value in self.by_host.items()}


def read_published(path: Path) -> list[Published]:
    """Read a CSV with the columns of `Published`.

    Raises:
        ConfigError: the file cannot be read, or has other columns.
    """
    names = [item.name for item in fields(Published)]
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not rows or any(list(row) != names for row in rows):
        raise ConfigError(f"{path} has no rows with the columns {', '.join(names)}")
    return [Published(**row) for row in rows]


def compare_engines(rows: Iterable[Published]) -> list[Compared]:
    """Simulate every set-up once, and once with each other host time."""
    simulated: dict[tuple[str, ...], tuple[dict[str, float], dict[str, dict[str, float]]]] = {}
    found = []
    for row in rows:
        if row.setup not in simulated:
            plan = make_plan(_config(row))
            stated, changed = _simulate(row, plan), {name: _with_host(plan, *HOSTS[name]) for name in HOSTS}
            simulated[row.setup] = (
                stated,
                {
                    name: stated if other == plan else _simulate(row, other)
                    for name, other in changed.items()
                },
            )
        stated, others = simulated[row.setup]
        by_host = {name: values[row.metric] for name, values in others.items()}
        found.append(Compared(row, stated[row.metric], by_host))
    return found


def _with_host(plan: Plan, factor: float, more: float) -> Plan:
    costs = plan.step_times
    if isinstance(costs, BatchCosts):
        costs = replace(costs, step=factor * costs.step + more, request=factor * costs.request)
    else:
        assert isinstance(costs, KernelCosts), "the engines have one of the two"
        costs = replace(costs, step=factor * costs.step + more)
    return replace(plan, step_times=costs)


def _simulate(row: Published, plan: Plan) -> dict[str, float]:
    """Every metric, in the unit of the published one.

    LMDeploy computes all of a prompt but its last token, and that one in a decode step: its first token
    comes a step later.
    """
    prompt_len = int(row.prompt_len)
    requests = [
        Request(number, 0.0, Prompt(prompt_len, seed=number), SamplingParams(length))
        for number, length in enumerate(_outputs(row))
    ]
    record = SimulatedBackend().make_engine(plan).run(FixedArrivals(requests))
    values = summarize(record)
    has_step = row.engine.startswith("LMDeploy") and prompt_len > 1
    step = _number(values["tpot_mean_ms"]) / 1e3 if has_step else 0.0
    throughputs = {name: _number(values[metric]) for name, metric in THROUGHPUTS.items()}
    return throughputs | {FIRST_TOKEN: float(record.latencies.ttft.max()) + step}


def _number(value: Value) -> float:
    assert isinstance(value, int | float), "every request has been completed"
    return float(value)


def _outputs(row: Published) -> list[int]:
    """The length of every request's reply."""
    capped = re.fullmatch(r"exponential mean (\d+) capped at (\d+)", row.output_len)
    if capped is not None:
        draws = np.random.default_rng(0).exponential(int(capped[1]), int(row.load.split()[0]))
        return [int(length) for length in np.ceil(draws).clip(1, int(capped[2]))]
    length = int(row.output_len)
    batch = re.fullmatch(r"batch (\d+)", row.load)
    number = int(batch[1]) if batch else math.ceil(FULL_LOAD_TOKENS / (int(row.prompt_len) + length))
    return [length] * number


def _config(row: Published) -> RunConfig:
    """The engine's limits according to its page, else its defaults at the time."""
    config = RunConfig(
        model=row.model,
        device=f"sim:{row.card}",
        tensor_parallel_size=int(row.tensor_parallel),
        rate=math.inf,
    )
    if row.engine == ENGINES[0]:
        return replace(config, cost_model="vllm-2023")
    longest = int(row.prompt_len) + int(row.output_len)
    return replace(
        config,
        cost_model="modern",
        max_model_len=longest if longest > 2048 else None,
        max_num_seqs=2048,
        max_num_batched_tokens=max(8192, int(row.prompt_len)),
    )


def engines_table(rows: list[Compared]) -> Table:
    """The ratios of each engine and metric."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.published.engine, row.published.metric].append(row)
    columns = (
        Column("engine", is_key=True, is_text=True),
        Column("metric", is_key=True, is_text=True),
        *map(Column, ("figures", "median", "lowest", "highest")),
        *(Column(name.replace("_", " ")) for name in HOSTS),
    )
    cells = []
    for names, members in groups.items():
        ratios = [row.ratio for row in members]
        medians = [median(row.ratio_by_host[name] for row in members) for name in HOSTS]
        shown = [median(ratios), min(ratios), max(ratios), *medians]
        cells.append((*names, len(members), *(f"{value:.2f}" for value in shown)))
    return Table(columns, cells)


def figures_table(rows: list[Compared]) -> Table:
    """Every figure."""
    names = ("engine", "model", "card", "prompt_len", "output_len", "load", "metric")
    columns = (
        *(Column(name.replace("_", " "), is_text=True) for name in names),
        *map(Column, ("published", "simulated", "ratio")),
    )
    cells = [
        (
            *(getattr(row.published, name) for name in names),
            row.published.value,
            f"{row.simulated:.4g}",
            f"{row.ratio:.2f}",
        )
        for row in rows
    ]
    return Table(columns, cells)


def reproduce_engines(path: Path, output: Path | None, *, force: bool) -> None:
    """Print the ratios, and write `engines.md` and `engines.csv` into a folder.

    Raises:
        ConfigError: the published figures cannot be read.
        ReportError: the folder cannot be written.
    """
    published = read_published(path)
    if output is not None:
        check_folder(output, force=force)
    rows = compare_engines(published)
    print_table(stdout_console(), engines_table(rows))
    if output is None:
        return
    text = f"{TITLE}\n{markdown_table(engines_table(rows))}\n{markdown_table(figures_table(rows))}"
    table = [
        asdict(row.published)
        | {"simulated": row.simulated, "ratio": row.ratio}
        | {f"ratio_{name}": ratio for name, ratio in row.ratio_by_host.items()}
        for row in rows
    ]
    manifest = {"schema_version": 1, "status": "complete", "ended": utc_text(), **provenance()}
    files = {
        "engines.md": text,
        "engines.csv": csv_text(list(table[0]), table),
        "manifest.json": json_text(manifest),
    }
    print(f"Saved to {write_files(files, output, force=force)}")
