"""Pairing runs of the same requests, and naming what forbids a comparison: model, pool, device, clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.runs.saved import SavedRun

KEYS = ("trace", "model", "dtype", "pool", "device", "clock")
"""Facts in which runs must agree; `--across` allows differences in some of them."""

WORKLOAD = ("trace", "rate", "arrival", "n", "beam_width")
"""Options that say which requests arrive; runs of equal workload and seed are a pair."""

TREATMENTS = ("system", "block_size", "preemption")
"""Options by which runs are also paired, unless each side has one value throughout, and these differ: then
the comparison is between the two values."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact in which two runs differ."""

    key: str
    reference: str
    candidate: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs of the same requests."""

    reference: SavedRun
    candidate: SavedRun

    @property
    def is_virtual(self) -> bool:
        """Whether both ran in virtual time, which has no noise."""
        return all(clock_of(run) == "virtual" for run in (self.reference, self.candidate))


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs of one workload, which differ in seed or are repeats.

    `label` says how the group differs from the others; it is empty for a single group.
    """

    label: str
    pairs: tuple[Pair, ...]

    @property
    def is_exact(self) -> bool:
        return all(pair.is_virtual for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class Pairing:
    """All pairs of two sides.

    Attributes:
        differences: facts in which runs must agree but differ; if there are any, nothing is compared.
        unpaired: folders of runs without a partner.
    """

    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    unpaired: tuple[str, ...]


def parse_across(text: str | None) -> tuple[str, ...]:
    """The keys of `--across`.

    Raises:
        ConfigError: one of them is not known.
    """
    keys = tuple(part.strip() for part in text.split(",")) if text else ()
    for key in keys:
        if key not in KEYS:
            raise ConfigError(f"--across takes {', '.join(KEYS)}, not {key!r}")
    return keys


def pair_runs(references: Items[SavedRun], candidates: Items[SavedRun], across: Items[str] = ()) -> Pairing:
    """Pair the runs of two sides by workload and seed; repeats in the order of their start."""
    names = _key_names(references, candidates, across)
    own, others = _by_key(references, names), _by_key(candidates, names)
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for key, firsts in own.items():
        for first, second in zip(firsts, others.get(key, ()), strict=False):
            groups.setdefault(key[:-1], []).append(Pair(first, second))
    pairs = [pair for members in groups.values() for pair in members]
    paired = {id(run) for pair in pairs for run in (pair.reference, pair.candidate)}
    differences = [
        item for pair in pairs for item in differences_of(pair.reference, pair.candidate, across)
    ]
    if not pairs and references and candidates:
        differences = _workload_differences(references, candidates, (*names, "seed"), across)
    labels = _labels(list(groups), names)
    return Pairing(
        groups=tuple(Group(label, tuple(groups[key])) for key, label in labels.items()),
        differences=tuple(dict.fromkeys(differences)),
        unpaired=tuple(str(run.folder) for run in (*references, *candidates) if id(run) not in paired),
    )


def differences_of(reference: SavedRun, candidate: SavedRun, across: Items[str] = ()) -> list[Difference]:
    """The facts of `KEYS` without `across` in which two runs differ."""
    # A system's attention affects its step times: two systems need only have the same cost model's name.
    by_name = reference.system != candidate.system
    first, second = (_facts(run, by_name=by_name) for run in (reference, candidate))
    block_size = max(_option(run, "block_size") or 1 for run in (reference, candidate))
    sizes = [run.manifest["plan"]["kv_slots"] for run in (reference, candidate)]
    is_same_pool = abs(sizes[0] - sizes[1]) < block_size  # one size, rounded to whole blocks
    return [
        Difference(key, first[key], second[key])
        for key in KEYS
        if key not in across and first[key] != second[key] and not (key == "pool" and is_same_pool)
    ]


def changed_options(groups: Iterable[Group]) -> list[Difference]:
    """Options, versions and commits that differ within a pair: the changes between the sides."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for pair in (pair for group in groups for pair in group.pairs):
        first, second = _circumstances(pair.reference), _circumstances(pair.candidate)
        for name in sorted({*first, *second}):
            if first.get(name) != second.get(name):
                sides = found.setdefault(name, (set(), set()))
                sides[0].add(first.get(name, "-"))
                sides[1].add(second.get(name, "-"))
    return [Difference(name, *(", ".join(sorted(side)) for side in sides)) for name, sides in found.items()]


def clock_of(run: SavedRun) -> str:
    """The time that a run was measured in: "virtual" or "wall"."""
    return "virtual" if str(run.config.get("device")).startswith("sim:") else "wall"


def _facts(run: SavedRun, *, by_name: bool) -> dict[str, str]:
    plan, trace = run.manifest["plan"], run.manifest["trace"]
    device = [plan["device"], plan["device_name"], _cost_model(run, by_name=by_name)]
    return {
        "trace": f"{trace['name']} {trace['sha256'][:12]}, arrivals {trace['arrivals_sha256'][:12]}",
        "model": f"{plan['model']}, weights {plan['weights']}",
        "dtype": str(plan["dtype"]),
        "pool": f"{plan['kv_slots']:,} tokens",
        "device": ", ".join(str(part) for part in device if part),
        "clock": clock_of(run),
    }


def _cost_model(run: SavedRun, *, by_name: bool) -> str | None:
    """The source of simulated step times in words or, with `by_name`, the option if one was chosen."""
    words: str | None = run.manifest["plan"]["cost_model"]
    name = str(run.config.get("cost_model", "auto"))
    return name if by_name and words is not None and name != "auto" else words


def _circumstances(run: SavedRun) -> dict[str, str]:
    manifest, plan = run.manifest, run.manifest["plan"]
    found = {name: value for name, value in run.config.items() if name not in ("label", "seed")}
    found |= {f"{name} version": value for name, value in manifest["versions"].items()}
    found |= {"kernels": plan["kernels"], "cost model": plan["cost_model"]}
    found["git commit"] = manifest["git_commit"]
    return {name: str(value) for name, value in found.items()}


def _option(run: SavedRun, name: str) -> Any:
    known = {"trace": run.manifest["trace"]["name"], "system": run.system}
    return known.get(name, run.config.get(name))


def _key_names(references: Items[SavedRun], candidates: Items[SavedRun], across: Items[str]) -> list[str]:
    """The options to pair by, besides the seed."""
    names = [name for name in WORKLOAD if "trace" not in across or name in ("rate", "arrival")]
    for name in TREATMENTS:
        own, others = ({_option(run, name) for run in side} for side in (references, candidates))
        if not (len(own) == len(others) == 1 and own != others):
            names.append(name)
    return names


def _by_key(runs: Items[SavedRun], names: Items[str]) -> dict[tuple[str, ...], list[SavedRun]]:
    found: dict[tuple[str, ...], list[SavedRun]] = {}
    for run in sorted(runs, key=lambda run: str(run.manifest["started"])):
        key = tuple(_shown(_option(run, name)) for name in (*names, "seed"))
        found.setdefault(key, []).append(run)
    return dict(sorted(found.items(), key=lambda item: min(runs.index(run) for run in item[1])))


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _labels(keys: list[tuple[str, ...]], names: Items[str]) -> dict[tuple[str, ...], str]:
    """The key of every group in words, without the options that are the same in all groups."""
    varying = [i for i in range(len(names)) if len({key[i] for key in keys}) > 1]
    return {key: ", ".join(_named(names[i], key[i]) for i in varying) for key in keys}


def _named(name: str, value: str) -> str:
    return value if name in ("system", "trace") else f"{name.replace('_', ' ')} {value}"


def _workload_differences(
    references: Items[SavedRun], candidates: Items[SavedRun], names: Items[str], across: Items[str]
) -> list[Difference]:
    """Why no run has a partner: options whose values differ, or other differences of the first runs."""
    found = []
    for name in names:
        sides = [sorted({_shown(_option(run, name)) for run in side}) for side in (references, candidates)]
        if sides[0] != sides[1]:
            found.append(Difference(name, ", ".join(sides[0]), ", ".join(sides[1])))
    others = differences_of(references[0], candidates[0], ("trace", *across))
    return [*found, *(item for item in others if item.key not in names)]
