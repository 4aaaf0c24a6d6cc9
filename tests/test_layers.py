"""The architecture: who may import whom, and where torch may not be."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pagedbench.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[1] / "pagedbench"

RANKS = {
    "pagedbench": 0,
    "pagedbench.prompt": 0,
    "pagedbench.request": 0,
    "pagedbench.clock": 0,
    "pagedbench.errors": 0,
    "pagedbench.option_values": 0,
    "pagedbench.option_checks": 0.4,
    "pagedbench.config": 0.5,
    "pagedbench.workload": 1,
    "pagedbench.memory": 1,
    "pagedbench.scheduling": 2,
    "pagedbench.simulation": 3,
    "pagedbench.metrics": 3,
    "pagedbench.engine": 4,
    "pagedbench.fleet": 4.5,
    "pagedbench.loadgen": 4.5,
    "pagedbench.ops": 5.0,
    "pagedbench.models": 5.1,
    "pagedbench.execution": 5.2,
    "pagedbench.own_classes": 5.7,
    "pagedbench.policies": 5.8,
    "pagedbench.systems": 6,
    "pagedbench.pool": 6.05,
    "pagedbench.plan": 6.1,
    "pagedbench.backend": 6.2,
    "pagedbench.runs": 7,
    "pagedbench.remote": 7.5,
    "pagedbench.show": 8,
    "pagedbench.tools": 9,
    "pagedbench.cli": 10,
    "pagedbench.__main__": 11,
}
"""The longest name that a module begins with decides its rank."""

CONTROL_PLANE = ("request.py", "engine.py", "clock.py", "systems.py", "scheduling", "memory")
POLICIES = ("victims", "admission", "return_modes", "eviction", "evictions")
"""Modules of policies, which are no part of the control plane."""

ROOMS = ("memory/groups", "memory/virtual")
"""Managers beyond the paper's, which a reader of the control plane may skip."""

NOT_SPINE = ("fleet", "loadgen", "runs", "remote", "show", "tools", "cli")
BUDGETS = {
    "control plane": (4_920, CONTROL_PLANE),
    "managers beyond the paper's": (1_290, ROOMS),
    "spine": (27_935, tuple(path.name for path in PACKAGE.iterdir() if path.name not in NOT_SPINE)),
    "fleet": (1_200, ("fleet",)),
    "loadgen": (2_500, ("loadgen",)),
    "remote": (1_400, ("remote",)),
    "runs and show": (8_640, ("runs", "show")),
}
"""The most lines, and the files and folders that count."""

TOOL_BUDGET, LARGER_TOOLS = 2_300, {"paper": 3_470, "serve": 2_810, "calibrate": 2_910}
BUDGETS |= {
    f"tools/{path.name}": (LARGER_TOOLS.get(path.name, TOOL_BUDGET), (f"tools/{path.name}",))
    for path in sorted((PACKAGE / "tools").iterdir())
    if path.is_dir() and path.name != "__pycache__"
}

HAS_PANDAS = ("pagedbench.runs", "pagedbench.show", "pagedbench.tools", "pagedbench.cli")
HAS_TORCH = ("pagedbench.ops", "pagedbench.models", "pagedbench.execution")
MODULES = {
    ".".join(("pagedbench", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(module: str) -> str:
    names = [
        name for name in RANKS if module == name or (module.startswith(f"{name}.") and name != "pagedbench")
    ]
    assert names, f"{module} has no place in the architecture"
    return max(names, key=len)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path, *, only_at_import: bool, with_types: bool = False) -> Iterator[str]:
    """Modules that a file imports.

    Args:
        only_at_import: leave out what functions import when they are called.
        with_types: count what is imported for type checkers alone.
    """
    pending: list[ast.AST] = [tree_of(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not with_types:
            pending += node.orelse
            continue
        if only_at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        pending += ast.iter_child_nodes(node)


def test_imports_point_downwards() -> None:
    """Types count from `runs` upwards: below it the engine and what it runs may know of each other."""
    upwards = []
    for module, path in MODULES.items():
        own = room_of(module)
        with_types = RANKS[own] >= RANKS["pagedbench.runs"]
        for imported in imports_of(path, only_at_import=False, with_types=with_types):
            if not imported.startswith("pagedbench") or imported.startswith("pagedbench.kernels"):
                continue
            limit = RANKS[own] - (module.split(".")[:2] != imported.split(".")[:2]) * 1e-6
            if RANKS[room_of(imported)] > limit:
                upwards.append(f"{module} (rank {RANKS[own]}) imports {imported}")
    assert upwards == []


def test_no_tool_imports_another() -> None:
    assert [
        (module, imported)
        for module, path in MODULES.items()
        if module.startswith("pagedbench.tools.")
        for imported in imports_of(path, only_at_import=False, with_types=True)
        if imported.startswith("pagedbench.tools.") and imported.split(".")[:3] != module.split(".")[:3]
    ] == []


def test_only_execution_imports_torch() -> None:
    heavy = []
    for module, path in MODULES.items():
        if module.startswith(HAS_TORCH) and RANKS[room_of(module)] >= 5:
            continue
        unwanted = {"torch", "transformers", "datasets", "matplotlib", "pandas"}
        if module.startswith(HAS_PANDAS):
            unwanted.remove("pandas")
        names = {name.split(".")[0] for name in imports_of(path, only_at_import=True)}
        heavy += [(module, name) for name in sorted(names & unwanted)]
    assert heavy == []


def test_files_are_one_idea() -> None:
    long = []
    for path in MODULES.values():
        count = len(path.read_text(encoding="utf-8").splitlines())
        long += [f"{path} has {count} lines"] * (count > 300)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                long += [f"{path}: {node.name} is too long"] * (node.end_lineno - node.lineno >= 60)
    assert long == []


NAMES_SYSTEMS = (
    "pagedbench.systems",
    "pagedbench.config",  # the default of --system
    "pagedbench.cli.commands",
    "pagedbench.show.styles",  # their colours and markers; others share one
    "pagedbench.tools.check.matrix",  # the pinned runs
    "pagedbench.tools.paper",
)
"""Who may name the built-in systems."""

NAMES_ATTENTION = (
    "pagedbench.memory",
    "pagedbench.simulation",
    "pagedbench.tools.calibrate",
    "pagedbench.tools.check.sentences",
    "pagedbench.tools.kernels",
)
"""Where "paged" is a kind of attention, and not a system."""


BUILT_IN_MANAGERS = {
    cls.__name__
    for system in SYSTEMS.values()
    for manager in (system.manager, system.windowed)
    if manager is not None
    for cls in manager.__mro__
} - {"ABC", "KVManager", "object"}


def names_in(module: str) -> set[str]:
    """The built-in managers and systems that a module names, in its code or in its strings."""
    nodes = list(ast.walk(tree_of(MODULES[module])))
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    found = set() if module.startswith("pagedbench.memory.") else named & BUILT_IN_MANAGERS
    docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            words = set(node.value.replace(",", " ").split())
            if node.value != "paged" or module.startswith(NAMES_ATTENTION):
                words.discard("paged")
            found |= words & set(SYSTEMS)
    return found


def test_managers_and_systems_are_named_in_one_place() -> None:
    """So a manager under another name has the same rights."""
    modules = [module for module in MODULES if not module.startswith(NAMES_SYSTEMS)]
    assert {module: names_in(module) for module in modules if names_in(module)} == {}


@pytest.mark.parametrize("part", BUDGETS)
def test_budgets_hold(part: str) -> None:
    limit, names = BUDGETS[part]
    roots = [PACKAGE / name for name in names]
    files = [file for root in roots for file in (root.rglob("*.py") if root.is_dir() else [root])]
    if part == "control plane":
        rooms = [PACKAGE / room for room in ROOMS]
        files = [file for file in files if file.stem not in POLICIES and file.parent not in rooms]
    count = sum(
        len(file.read_text(encoding="utf-8").splitlines()) for file in files if file.suffix == ".py"
    )
    assert 0 < count <= limit, f"{part} has {count} lines: something must leave before something enters"


def test_a_simulation_needs_no_torch() -> None:
    script = (
        "import sys\n"
        "from pagedbench.backend import load_backend\n"
        "from pagedbench.config import RunConfig\n"
        "from pagedbench.plan import make_plan\n"
        "from pagedbench.workload.arrivals import FixedArrivals\n"
        "from pagedbench.prompt import Prompt\n"
        "from pagedbench.request import Request, SamplingParams\n"
        "plan = make_plan(RunConfig(model='opt-13b', device='sim:a100-40gb'))\n"
        "requests = [Request(0, 0.0, Prompt(9), SamplingParams(9))]\n"
        "record = load_backend(plan).make_engine(plan).run(FixedArrivals(requests))\n"
        "assert record.requests[0].num_tokens == 9\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_kernels_is_not_a_package_of_its_own() -> None:
    assert not (PACKAGE.parent / "kernels" / "__init__.py").exists()  # transformers would execute it
