"""What prompts begin with, and how each reply is decoded."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pagedbench.request import SamplingParams
from pagedbench.workload.dataset import Dataset, MeanLengths
from pagedbench.workload.prompts import SharedPrefixes, sampling_of
from pagedbench.workload.rows import Row, TraceError
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import Trace, build_trace

SIX = [Row(10 * i, 5) for i in range(1, 7)]


NOTHING = SharedPrefixes()


def trace_of(rows: list[Row], shared: SharedPrefixes = NOTHING, **options: object) -> Trace:
    dataset = Dataset("few", tuple(rows), "invented", synthetic=True, paper_means=MeanLengths(1.0, 2.0))
    return build_trace(dataset, Traffic(rate=math.inf), shared=shared, **options)


def test_every_prompt_begins_with_one_of_the_texts():
    trace = trace_of(SIX * 20, SharedPrefixes(40, 3))
    texts = [text.contents() for text in trace.prefixes]
    assert [len(text) for text in texts] == [40] * 3
    used = []
    for request, row in zip(trace.requests, SIX * 20, strict=True):
        assert request.prompt_len == 40 + row.prompt_len
        contents = request.prompt.contents()
        used += [i for i, text in enumerate(texts) if np.array_equal(contents[:40], text)]
    assert len(used) == 120
    assert min(used.count(i) for i in range(3)) > 20
    assert trace.paper_means is None  # its prompts are no longer the paper's


def test_what_is_behind_the_prefix_is_unchanged():
    plain, shared = trace_of(SIX), trace_of(SIX, SharedPrefixes(40))
    for alone, behind in zip(plain.requests, shared.requests, strict=True):
        np.testing.assert_array_equal(behind.prompt.contents()[40:], alone.prompt.contents())
    assert plain.prefixes == ()
    assert plain.sha256 != shared.sha256


def test_texts_do_not_depend_on_the_number_of_requests():
    few, many = trace_of(SIX[:2], SharedPrefixes(40, 3)), trace_of(SIX, SharedPrefixes(40, 3))
    assert few.prefixes == many.prefixes
    assert [r.prompt.prefix for r in few.requests] == [r.prompt.prefix for r in many.requests[:2]]
    assert trace_of(SIX, SharedPrefixes(40, 3), seed=1).prefixes != many.prefixes


def test_the_prefix_counts_for_the_longest_length():
    trace = trace_of(SIX, SharedPrefixes(40), max_model_len=40 + 36)
    assert [request.prompt_len for request in trace.requests] == [50, 60, 70]
    assert trace.num_dropped == 3


def test_real_tokens_get_a_prefix_of_real_tokens():
    rows = [Row(2, 3, (7, 8)), Row(2, 3, (9, 10)), Row(5, 3)]
    trace = trace_of(rows, SharedPrefixes(20, vocab_size=50))
    (text,) = trace.prefixes
    prompts = [request.prompt.ids(50).tolist() for request in trace.requests]
    assert [ids[:20] for ids in prompts] == [text.ids(50).tolist()] * 3
    assert [ids[20:] for ids in prompts[:2]] == [[7, 8], [9, 10]]
    assert np.array_equal(prompts[2][20:], trace_of(rows).requests[2].prompt.ids(50))
    assert len(set(text.ids(50).tolist())) > 5


def test_conversations_have_no_shared_prefix():
    with pytest.raises(TraceError, match="leave out the shared prefix"):
        trace_of([Row(5, 5, session="a")], SharedPrefixes(20))


SAMPLES = SamplingParams(0, n=3, temperature=0.5, top_p=0.9, top_k=7, seed=11)
BEAMS = SamplingParams(0, beam_width=4, seed=11)
GREEDY = SamplingParams(0, seed=11)


@pytest.mark.parametrize(
    ("run", "cells", "expected"),
    [
        (SAMPLES, {}, SAMPLES),
        (BEAMS, {}, BEAMS),
        (SAMPLES, {"n": 5}, replace(SAMPLES, n=5)),
        (SAMPLES, {"beam_width": 1}, SAMPLES),
        (SAMPLES, {"beam_width": 6}, SamplingParams(0, beam_width=6, seed=11)),  # nothing is drawn
        (SAMPLES, {"n": 1, "beam_width": 6}, SamplingParams(0, beam_width=6, seed=11)),
        (BEAMS, {"beam_width": 2}, replace(BEAMS, beam_width=2)),
        (BEAMS, {"beam_width": 1}, GREEDY),
        (BEAMS, {"n": 1}, GREEDY),
        (GREEDY, {"n": 1}, GREEDY),
    ],
)
def test_a_row_may_say_how_it_is_decoded(run, cells, expected):
    assert sampling_of(Row(9, 13, **cells), run) == replace(expected, max_tokens=13)


def test_samples_need_a_temperature():
    with pytest.raises(TraceError, match="2 samples of a prompt, which need a --temperature"):
        sampling_of(Row(9, 13, n=2), GREEDY)


def test_the_hash_sees_the_decoding():
    kinds = [
        GREEDY,
        SAMPLES,
        replace(SAMPLES, n=2),
        replace(SAMPLES, top_k=8),
        BEAMS,
        replace(BEAMS, seed=3),
    ]
    assert len({trace_of(SIX, decoding=kind).sha256 for kind in kinds}) == len(kinds)
    assert trace_of(SIX).sha256 == trace_of(SIX, decoding=GREEDY).sha256  # a greedy reply has no seed


def test_decoding_is_known_where_all_is_alike():
    assert trace_of(SIX, decoding=SAMPLES).sampling == SAMPLES
    assert trace_of([*SIX, Row(1, 1, n=2)], decoding=SAMPLES).sampling is None
