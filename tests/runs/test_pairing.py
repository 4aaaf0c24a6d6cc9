from __future__ import annotations

import pytest

from pagedbench.config import ConfigError
from pagedbench.runs.pairing import changed_options, pair_runs, parse_across
from tools.compare.runs import VIRTUAL, make_run, repeats


def seeds_of(pairing: object) -> list[tuple[str, list[int]]]:
    return [(g.label, [p.candidate.config["seed"] for p in g.pairs]) for g in pairing.groups]


def test_pairs_by_trace_rate_and_seed() -> None:
    workloads = [{"rate": rate, "seed": seed} for rate in (1.0, 2.0) for seed in (0, 1)]
    first = [make_run({}, folder=f"a{i}", **item) for i, item in enumerate(workloads)]
    second = [make_run({}, folder=f"b{i}", **item) for i, item in enumerate(reversed(workloads))]
    pairing = pair_runs(first, second)
    assert seeds_of(pairing) == [("rate 1", [0, 1]), ("rate 2", [0, 1])]
    for group in pairing.groups:
        for pair in group.pairs:
            assert pair.reference.manifest["trace"] == pair.candidate.manifest["trace"]
    assert not pairing.differences
    assert not pairing.unpaired


def test_repeats_are_paired_in_the_order_they_were_started() -> None:
    first, second = repeats("tpot_p50_ms", range(3)), repeats("tpot_p50_ms", range(3))
    (group,) = pair_runs(first[::-1], second).groups
    assert [(p.reference.folder.name, p.candidate.folder.name) for p in group.pairs] == [
        (f"tpot_p50_ms-{i}", f"tpot_p50_ms-{i}") for i in range(3)
    ]


def test_runs_without_a_partner_are_named() -> None:
    extra = [make_run({}, seed=7, folder="alone"), *repeats("failed", [0, 0])]
    pairing = pair_runs(repeats("failed", [0]), extra)
    assert [len(group.pairs) for group in pairing.groups] == [1]
    assert sorted(pairing.unpaired) == ["alone", "failed-1"]


def test_one_system_against_another_is_the_question() -> None:
    pairing = pair_runs([make_run({})], [make_run({}, system="orca-max", folder="b")])
    assert len(pairing.groups) == 1
    assert [(d.key, d.reference, d.candidate) for d in changed_options(pairing.groups)] == [
        ("system", "paged", "orca-max")
    ]


def test_systems_may_have_costs_of_their_own_by_one_cost_model() -> None:
    sides = [[make_run({}, system=name, folder=name, cost_model=name)] for name in ("paged", "orca-max")]
    for (run,) in sides:
        run.config["cost_model"] = "roofline"
    pairing = pair_runs(*sides)
    assert not pairing.differences
    assert "cost model" in [item.key for item in changed_options(pairing.groups)]


@pytest.mark.parametrize("names", [("roofline", "published"), ("auto", "auto")])
def test_systems_in_the_time_of_different_cost_models_are_not_compared(names: tuple[str, str]) -> None:
    """Under "auto" stands a measured profile, whose words are the same for every system."""
    systems = ("paged", "orca-max")
    sides = [[make_run({}, system=name, folder=name, cost_model=f"fit of {name}")] for name in systems]
    for (run,), name in zip(sides, names, strict=True):
        run.config["cost_model"] = name
    assert [item.key for item in pair_runs(*sides).differences] == ["device"]
    assert not pair_runs(*sides, across=("device",)).differences


def test_the_same_systems_on_both_sides_are_paired_by_name() -> None:
    sides = [
        [make_run({}, system=name, folder=f"{label}-{name}") for name in order]
        for label, order in (("a", ("paged", "orca-max")), ("b", ("orca-max", "paged")))
    ]
    assert [group.label for group in pair_runs(*sides).groups] == ["paged", "orca-max"]


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("trace", {"trace": "alpaca"}),
        ("model", {"model": "opt-1.3b"}),
        ("model", {"weights": "real"}),
        ("dtype", {"dtype": "bfloat16"}),
        ("pool", {"kv_slots": 8000}),
        ("device", {"device_name": "another machine"}),
        ("device", {"cost_model": "another fit"}),
    ],
)
def test_what_may_not_be_compared_is_refused_unless_allowed(key: str, change: dict[str, object]) -> None:
    sides = [make_run({})], [make_run({}, folder="b", **change)]
    assert [item.key for item in pair_runs(*sides).differences] == [key]
    allowed = pair_runs(*sides, across=(key,))
    assert len(allowed.groups) == 1
    assert not allowed.differences


def test_the_same_name_with_other_requests_is_another_trace() -> None:
    other = make_run({}, folder="b")
    other.manifest["trace"]["sha256"] = "f" * 64
    (difference,) = pair_runs([make_run({})], [other]).differences
    assert (difference.key, difference.candidate.split(",")[0]) == ("trace", "sharegpt ffffffffffff")


def test_real_and_virtual_time_differ_in_device_and_clock() -> None:
    sides = [make_run({})], [make_run({}, device=VIRTUAL, folder="b")]
    assert [item.key for item in pair_runs(*sides).differences] == ["device", "clock"]
    (group,) = pair_runs(*sides, across=("device", "clock")).groups
    assert not group.is_exact


def test_a_pool_floored_to_other_blocks_is_the_same_pool() -> None:
    floored = make_run({}, folder="b", block_size=48, kv_slots=15_984)
    assert not pair_runs([make_run({})], [floored]).differences


def test_without_any_partner_the_sides_are_described() -> None:
    pairing = pair_runs([make_run({})], [make_run({}, seed=1, rate=4.0, dtype="float16", folder="b")])
    assert not pairing.groups
    assert [(d.key, d.reference, d.candidate) for d in pairing.differences] == [
        ("rate", "2", "4"),
        ("seed", "0", "1"),
        ("dtype", "float32", "float16"),
    ]


def test_across_knows_its_keys() -> None:
    assert parse_across("model, pool") == ("model", "pool")
    assert parse_across(None) == ()
    with pytest.raises(ConfigError, match="--across takes trace, model"):
        parse_across("seed")
