"""The table of commands: where each is defined, and what the help pages say of it besides options.

Nothing is imported for the table: `pagedbench --help` needs no command, and a command needs no other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One command.

    Attributes:
        group: its heading in `pagedbench --help`.
        module: defines a function of the command's name, or `app`, a Typer with subcommands.
        summary: one sentence.
        examples: as they are typed, without the name of the program.
    """

    group: str
    module: str
    summary: str
    examples: tuple[str, ...]


COMMANDS = {
    "run": Entry(
        "Run",
        "pagedbench.cli.run",
        "Run a system on a trace and print its metrics; comma-separated values run as a cross product.",
        (
            "run --system paged,orca-max,mine=module:Class",
            "run --trace alpaca --rate 1,2,4 --num-requests 200",
            "run --n 2,4 --temperature 1",
            "run --model opt-13b --device sim:a100-40gb,sim:h100",
            "run --kv-memory 400MiB,600MiB --prefix-caching on,off",
            "run --repeats 5 --output before",
        ),
    ),
    "compare": Entry(
        "Run",
        "pagedbench.tools.compare.command",
        "Compare every system (or those of --system) on the same requests; or compare saved runs.",
        (
            "compare --rate 4 --duration 15",
            "compare --arrival spike --slo chat --require-slo 90%",
            "compare before after --gate tpot --threshold 5%",
            "compare --reference ../main/.venv/bin/pagedbench --gate tpot",
            "compare --target mine=http://localhost:8000,paged --model FOLDER",
        ),
    ),
    "replay": Entry(
        "Run",
        "pagedbench.tools.replay.command",
        "Send the requests of a trace to any server, and measure it as `run` measures this engine.",
        (
            "replay --base-url http://localhost:8000 --rate 1,2",
            "replay --config saved/config.toml",
            "replay --certify --rates 100,1000",
        ),
    ),
    "sweep": Entry(
        "Run",
        "pagedbench.tools.sweep.command",
        "Run the cross product of comma-separated values, one folder per run, and write one sweep.csv.",
        ("sweep --system paged,orca-max --rate 1,2,4 --output study",),
    ),
    "serve": Entry(
        "Serve",
        "pagedbench.tools.serve.command",
        "Serve any system behind an OpenAI-compatible endpoint until Ctrl-C or SIGTERM.",
        (
            "serve --system paged --model opt-125m --port 8000",
            "serve --model opt-13b --device sim:a100-40gb",
        ),
    ),
    "capacity": Entry(
        "Decide",
        "pagedbench.tools.capacity.command",
        "Find the highest rate, or the smallest KV pool, at which each system meets a latency bound.",
        ("capacity --model opt-13b --device sim:a100-40gb --bound 0.5",),
    ),
    "plan": Entry(
        "Decide",
        "pagedbench.tools.plan.command",
        "Find how many replicas of which kind meet an SLO, by simulating the fleet behind a router.",
        (
            "plan --model opt-13b --device sim:a100-40gb --rate 8 --slo chat",
            "plan --replicas 4 --router prefix --device sim:h100 --rate 20",
        ),
    ),
    "policies": Entry(
        "Decide",
        "pagedbench.tools.policies.command",
        "Compare policies of preemption, eviction and admission, and say how far each is from the best.",
        (
            "policies --model opt-13b --device sim:a100-40gb --kv-slots 6000",
            "policies --curve --trace prefix-tree --device sim:h100",
        ),
    ),
    "explain": Entry(
        "Explain and show",
        "pagedbench.tools.explain.command",
        "Say where the mean latency of a saved run comes from, or the difference between two runs.",
        ("explain study/paged_sharegpt_r2_s0 study/orca-max_sharegpt_r2_s0",),
    ),
    "view": Entry(
        "Explain and show",
        "pagedbench.tools.view.command",
        "Show the memory of a saved run in one HTML file: blocks over time, who owned and who lost them.",
        ("view study",),
    ),
    "plot": Entry(
        "Explain and show",
        "pagedbench.tools.report.plot_command",
        "Plot saved runs on the paper's axes, with a fixed colour and marker for every system.",
        ("plot study",),
    ),
    "report": Entry(
        "Explain and show",
        "pagedbench.tools.report.command",
        "Write a report on saved runs: what ran, figures, results, caveats, provenance.",
        ("report study --output study.html",),
    ),
    "check": Entry(
        "Guard in CI",
        "pagedbench.tools.check.command",
        "Did any decision change? Small runs of all systems in virtual time, compared slot by slot.",
        ("check",),
    ),
    "baseline": Entry(
        "Guard in CI",
        "pagedbench.tools.check.baseline_command",
        "Save, list, show or calibrate baselines of `pagedbench check`.",
        ("baseline save",),
    ),
    "reproduce": Entry(
        "The paper",
        "pagedbench.tools.paper.command",
        "Reproduce figures of the paper, and later claims of the field: published numbers and ours.",
        ("reproduce fig12a",),
    ),
    "trace": Entry(
        "Traces and machine",
        "pagedbench.tools.trace.command",
        "List, show, import, synthesize or fetch traces.",
        ("trace show sharegpt",),
    ),
    "kernels": Entry(
        "Traces and machine",
        "pagedbench.tools.kernels.command",
        "Time each op: paged against contiguous, plain PyTorch and the machine's limits (paper: Fig. 18a).",
        ("kernels --quick",),
    ),
    "calibrate": Entry(
        "Traces and machine",
        "pagedbench.tools.calibrate.command",
        "Fit the cost model to batches timed on this machine, or to a server under load, and save it for "
        "`--device sim:FILE`.",
        (
            "calibrate --model opt-125m --output machine.json",
            "calibrate --base-url http://localhost:8000 --output twin.json",
        ),
    ),
    "systems": Entry(
        "Traces and machine",
        "pagedbench.cli.systems",
        "List the systems: where keys and values live, and who runs next.",
        ("systems",),
    ),
    "doctor": Entry(
        "Traces and machine",
        "pagedbench.cli.doctor",
        "Say whether this machine is ready: exit code 0, or 1 if a run would fail.",
        ("doctor", "doctor --models", "doctor --cards"),
    ),
}
"""Commands by name, in the order in which the help page shows them."""

DEBUG = "PAGEDBENCH_DEBUG=1 in the environment shows the whole traceback of a crash."


def examples_of(name: str) -> str:
    """The end of a command's help page, in paragraphs, each of which is shown as a line."""
    examples = COMMANDS[name].examples
    if name == "run":
        return _paragraphs("Examples, one for each group of options:", *examples)
    return _paragraphs("Example:" if len(examples) == 1 else "Examples:", *examples)


def group_examples() -> str:
    """The end of `pagedbench --help`: an example of each group."""
    first: dict[str, str] = {}
    for entry in COMMANDS.values():
        first.setdefault(entry.group, entry.examples[0])
    return f"{_paragraphs('Commands by example, one for each group:', *first.values())}\n\n{DEBUG}"


def _paragraphs(heading: str, *examples: str) -> str:
    return "\n\n".join([heading, *(f"pagedbench {example}" for example in examples)])
