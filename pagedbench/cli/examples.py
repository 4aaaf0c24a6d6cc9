"""What the help pages say besides options: which commands belong together, and examples of each."""

from __future__ import annotations

GROUPS = {
    "Run": "run compare sweep",
    "Decide": "capacity",
    "Explain and show": "explain plot report",
    "Guard in CI": "check baseline",
    "The paper": "reproduce",
    "Traces and machine": "trace kernels calibrate systems doctor",
}
"""Headings of `pagedbench --help`, and the commands below each."""

EXAMPLES = {
    "run": (
        "run --system paged,orca-max,mine=module:Class",
        "run --trace alpaca --rate 1,2,4 --num-requests 200",
        "run --n 2,4 --temperature 1",
        "run --model opt-13b --device sim:a100-40gb,sim:h100",
        "run --kv-memory 400MiB,600MiB --prefix-caching on,off",
        "run --repeats 5 --output before",
    ),
    "compare": (
        "compare --rate 4 --duration 15",
        "compare before after --gate tpot --threshold 5%",
        "compare --reference ../main/.venv/bin/pagedbench --gate tpot",
    ),
    "sweep": ("sweep --system paged,orca-max --rate 1,2,4 --output study",),
    "capacity": ("capacity --model opt-13b --device sim:a100-40gb --bound 0.5",),
    "explain": ("explain study/paged_sharegpt_r2_s0 study/orca-max_sharegpt_r2_s0",),
    "plot": ("plot study",),
    "report": ("report study --output study.html",),
    "check": ("check",),
    "baseline": ("baseline save",),
    "reproduce": ("reproduce fig12a",),
    "trace": ("trace show sharegpt",),
    "kernels": ("kernels --quick",),
    "calibrate": ("calibrate --model opt-125m --output machine.json",),
    "systems": ("systems",),
    "doctor": ("doctor",),
}
"""By command, without the name of the program."""

DEBUG = "PAGEDBENCH_DEBUG=1 in the environment shows the whole traceback of a crash."


def group_of(command: str) -> str:
    """The heading that a command stands below."""
    return next(group for group, names in GROUPS.items() if command in names.split())


def examples_of(command: str) -> str:
    """The end of a command's help page, in paragraphs, each of which is shown as a line."""
    examples = EXAMPLES[command]
    if command == "run":
        return _paragraphs("Examples, one for each group of options:", *examples)
    return _paragraphs("Example:" if len(examples) == 1 else "Examples:", *examples)


def group_examples() -> str:
    """The end of `pagedbench --help`: an example of each group."""
    first = (EXAMPLES[names.split()[0]][0] for names in GROUPS.values())
    return f"{_paragraphs('Commands by example, one for each group:', *first)}\n\n{DEBUG}"


def _paragraphs(heading: str, *examples: str) -> str:
    return "\n\n".join([heading, *(f"pagedbench {example}" for example in examples)])
