"""A server is measured within its time, and refused where its replies show too little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pagedbench.config import ConfigError
from pagedbench.loadgen.wire import Failure
from pagedbench.plan import make_plan
from pagedbench.runs.prediction import UNSEEN, predict
from pagedbench.runs.runner import Runner
from pagedbench.runs.traces import trace_of
from pagedbench.show.predictions import prediction_sentences
from pagedbench.simulation.profile import read_profile
from pagedbench.simulation.twin import Variation
from pagedbench.tools.calibrate.twin.measure import Check, Compared, Measurement
from pagedbench.tools.calibrate.twin.report import print_twin, save_twin
from pagedbench.tools.calibrate.twin.sent_load import SentLoad
from pagedbench.workload.dataset import load_dataset
from tools.calibrate.twin.servers import CONFIG, limits, plan_with, profile_of
from tools.calibrate.twin.simulated_server import SimulatedServer


def measure(send, duration=40.0, seed=CONFIG.seed):
    config = replace(CONFIG, seed=seed)
    return Measurement(send, limits(), config, profile_of, duration, lambda _: None).run()


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    path = tmp_path_factory.mktemp("twin") / "twin.json"
    server = SimulatedServer(plan_with(), noise=0.03, drift=0.01, delay=0.002, jitter=1e-4)
    measured = measure(server.send)
    save_twin(measured, path)
    return measured, path


def test_it_keeps_its_time_and_predicts_its_loads(twin):
    measured, path = twin
    assert 15 < measured.seconds < 60
    assert not measured.was_cut
    for check in measured.checks:
        for name, item in check.values.items():
            assert item.predicted == pytest.approx(item.measured, rel=0.12), name
            assert item.low <= item.predicted <= item.high, name
            assert item.is_inside == (item.low <= item.measured <= item.high), name
    assert read_profile(path).twin == measured.profile.twin


def test_no_prompt_is_sent_twice():
    """A server's prefix cache finds nothing, also where it was calibrated before with another seed."""
    seeds = []
    server = SimulatedServer(plan_with())

    def send(trace):
        seeds.extend(request.prompt.seed for request in trace.requests)
        return server.send(trace)

    measure(send, duration=15.0)
    measure(send, duration=15.0, seed=CONFIG.seed + 1)
    assert len(seeds) == len(set(seeds))
    plan = plan_with(seed=CONFIG.seed, trace="sharegpt", num_requests=20)
    later = {request.prompt.seed for request in trace_of(plan, load_dataset("sharegpt")).requests}
    assert not later & set(seeds)


def test_it_says_what_it_found_and_how_to_use_it(twin):
    console = Console(width=100, record=True)
    print_twin(console, *twin)
    text = " ".join(console.export_text().split())
    assert f"--device sim:{twin[1]} --model opt-125m --system paged --prefill mixed" in text.replace(
        "- ", "-"
    )
    assert "--max-model-len 1024" in text
    assert "--no-prefix-caching" in text.replace("- ", "-")
    assert "Measured up to 16 decoding sequences" in text
    assert text.count(" yes") + text.count(" no ") >= 8


def run_on(path, **options):
    config = replace(CONFIG, device=f"sim:{path}", trace="sharegpt", num_requests=20, rate=4.0, **options)
    plan = make_plan(config)
    runner = Runner(predicts=True)
    return runner.run(runner.prepare(plan, trace_of(plan, load_dataset("sharegpt"))))


def test_a_run_on_it_has_intervals_and_knows_its_domain(twin):
    result = run_on(twin[1])
    assert result.prediction is not None
    assert not result.prediction.changed
    for name, (low, high) in result.prediction.intervals.items():
        assert 0 < low <= result.values[name] <= high < 3 * low, name
    assert result.values["ttft_p50_ms"] > 1000 * result.plan.twin.delay
    larger = run_on(twin[1], max_num_seqs=64, kv_slots=40_000)
    sentences = " ".join(prediction_sentences(larger.prediction))
    assert "Predicted, not measured" in sentences
    assert "90% of further such runs lie in them. They do not cover the " in sentences
    assert "calibrated with --max-num-seqs 16, --kv-slots 8192" in sentences
    crowded = run_on(twin[1], max_num_seqs=64, kv_slots=40_000, arrival="constant")
    assert crowded.prediction == predict(crowded.plan, crowded.trace, crowded.record)


def test_what_lies_outside_is_said(twin):
    result = run_on(twin[1], max_num_seqs=64, kv_slots=40_000, label=None)
    plan = replace(result.plan, config=replace(result.plan.config, rate=float("inf")))
    runner = Runner(predicts=True)
    crowd = runner.run(runner.prepare(plan, trace_of(plan, load_dataset("sharegpt"))))
    (outside, *_) = crowd.prediction.outside
    assert outside.what == "decoding sequences"
    assert outside.most > outside.measured == 16
    assert 0 < outside.share < 1
    assert "Outside the measurements" in " ".join(prediction_sentences(crowd.prediction))


def test_iterations_that_move_blocks_count_once(twin):
    result = run_on(twin[1], n=2, temperature=1.0, preemption="swap", kv_slots=1600, max_model_len=512)
    moved = [result.record.steps[name] > 0 for name in UNSEEN]
    assert result.prediction.unmeasured == np.any(moved, axis=0).sum() < np.sum(moved)


def test_a_digest_is_of_all_that_is_known(twin):
    profile = twin[0].profile
    known = profile.twin
    others = (
        {"delay": 2 * known.delay},
        {"draws": known.draws[1:]},
        {"variation": Variation(known.variation.ratios[1:])},
    )
    digests = {replace(profile, twin=replace(known, **other)).digest for other in others}
    assert len(digests | {profile.digest}) == 4


def test_too_few_iterations_are_refused():
    server = SimulatedServer(plan_with())

    def whole(trace):
        return [
            replace(item, chunk_times=item.chunk_times[-1:], chunk_tokens=np.array([item.output_len]))
            for item in server.send(trace)
        ]

    with pytest.raises(ConfigError, match="too few for a fit: give a longer --duration"):
        measure(whole, duration=0.0)


def test_tokens_in_groups_of_unknown_size_are_refused():
    server = SimulatedServer(plan_with(), merged=0.5)

    def unknown(trace):
        return [replace(item, chunk_tokens=None) for item in server.send(trace)]

    with pytest.raises(ConfigError, match="does not say how many each holds"):
        measure(unknown)


def with_lengths(observations, length):
    return [replace(item, output_len=length(item)) for item in observations]


def test_replies_of_another_length_are_refused():
    server = SimulatedServer(plan_with())
    with pytest.raises(ConfigError, match="4 of 4 replies of the load probe are not as long as"):
        measure(lambda trace: with_lengths(server.send(trace), lambda item: item.output_len - 1))


def test_a_load_is_predicted_with_the_replies_that_came():
    trace = trace_of(plan_with(trace="sharegpt", num_requests=3), load_dataset("sharegpt"))
    asked = [request.reply_len for request in trace.requests]
    observations = SimulatedServer(plan_with()).send(trace)
    found = {0: 7, 1: asked[1] + 5, 2: None}
    seen = with_lengths(observations, lambda item: found[item.request_id])
    sent = SentLoad(trace, tuple(seen))
    assert sent.num_other_lengths == 2
    assert [request.reply_len for request in sent.served.requests] == [7, *asked[1:]]


def test_nothing_measured_has_no_error_as_a_share(twin):
    check = Check(0.4, 1.0, {"tpot_mean_ms": Compared(0.0, 1.0, 0.5, 2.0)})
    console = Console(width=100, record=True)
    print_twin(console, replace(twin[0], checks=(check,)), twin[1])
    (row,) = (line for line in console.export_text().splitlines() if "tpot_mean_ms" in line)
    assert row.split()[-3:] == ["1.00", "-", "no"]


def test_failures_are_refused():
    def failing(trace):
        server = SimulatedServer(plan_with())
        return [replace(item, failure=Failure.STATUS, detail="429") for item in server.send(trace)]

    with pytest.raises(ConfigError, match=r"failed 4 of 4 requests of the load probe \(429\)"):
        measure(failing)


def test_times_are_those_of_a_client(twin):
    result = run_on(twin[1])
    delay = result.plan.twin.delay
    first = result.record.requests[0]
    times = first.token_times(result.record.steps)
    assert times[0] - first.request.arrival_time > delay
    assert np.all(np.diff(times) > 0)
    assert first.finish_time == pytest.approx(times[-1])
