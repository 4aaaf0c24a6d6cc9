"""Conversations: a turn's prompt is what was said before, and a turn waits for the one before it."""

from __future__ import annotations

import io
import json
import math
import random

import numpy as np
import pytest

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.workload.dataset import Dataset, load_dataset
from pagedbench.workload.formats import parse
from pagedbench.workload.rows import BlockIds, Reading, Row, TraceError, Turn
from pagedbench.workload.selection import Traffic
from pagedbench.workload.sessions import Clients, SessionArrivals, Wait, conversations, with_histories
from pagedbench.workload.trace import Trace, build_trace

FIRST = [Row(100, 200, session="a"), Row(300, 2000, session="a"), Row(30, 40, session="a")]


class LetterTokenizer:
    """One token a letter, its code point, after a BOS of 2."""

    def encode(self, texts):
        return [[2, *(ord(letter) for letter in text)] for text in texts]


def chats(*conversations: list[tuple[str, str]]) -> Reading:
    records = [
        {"conversations": [{"from": speaker, "value": text} for speaker, text in turns]}
        for turns in conversations
    ]
    file = io.BufferedReader(io.BytesIO(json.dumps(records).encode()))
    return parse(file, "trace", LetterTokenizer, chat=True)


def trace_of(rows: list[Row], traffic: Traffic, **options: object) -> Trace:
    return build_trace(Dataset("chat", tuple(rows), "invented", synthetic=False), traffic, **options)


def test_a_prompt_is_the_whole_history_and_the_new_text():
    turns = list(with_histories([*FIRST, Row(7, 8)]))
    assert [(row.prompt_len, row.output_len) for row in turns] == [
        (100, 200),
        (600, 2000),
        (2630, 40),  # 100 + 200 + 300 + 2000 + 30 tokens were said
        (7, 8),
    ]


def test_a_turn_too_long_is_dropped_with_all_that_come_after_it():
    rows = [Row(100, 200, session="a"), Row(300, 100, session="a"), Row(1, 1, session="a"), Row(5, 5)]
    trace = trace_of(rows, Traffic(rate=math.inf), max_model_len=700)
    assert [request.prompt_len for request in trace.requests] == [100, 5]
    assert (trace.num_dropped, trace.waits) == (2, ())
    whole = trace_of(rows, Traffic(rate=math.inf), max_model_len=702)
    assert [request.prompt_len for request in whole.requests] == [100, 600, 5]
    assert (whole.num_dropped, whole.waits) == (1, (None, Wait((0,)), None))


def test_two_turns_of_1500_tokens_are_whole_and_the_second_finds_the_first():
    rows = [Row(1500, 100, session="a"), Row(1500, 100, session="a")]
    trace = trace_of(rows, Traffic(rate=math.inf), max_model_len=4096)
    first, second = trace.requests
    assert [(r.prompt_len, r.output_len) for r in (first, second)] == [(1500, 100), (3100, 100)]
    np.testing.assert_array_equal(second.prompt.contents()[:1500], first.prompt.contents())


def test_a_turn_that_asks_nothing_is_no_request_but_stays_in_the_history():
    rows = [Row(10, 20, session="a"), Row(0, 30, session="a"), Row(1, 1, session="a")]
    trace = trace_of(rows, Traffic(rate=math.inf))
    assert [request.prompt_len for request in trace.requests] == [10, 61]
    assert (trace.num_dropped, trace.waits) == (1, (None, Wait((0,))))


def test_turns_of_a_session_are_parts_of_one_text():
    trace = trace_of(FIRST, Traffic(rate=math.inf), max_model_len=4096)
    first, second, third = (request.prompt.contents() for request in trace.requests)
    np.testing.assert_array_equal(second[:100], first)
    np.testing.assert_array_equal(third[:600], second)
    small = [Row(3, 4, session="a"), Row(5, 6, session="a")]
    early, late = (request.prompt for request in trace_of(small, Traffic(rate=math.inf)).requests)
    np.testing.assert_array_equal(late.contents()[:3], early.contents())
    assert (early.length, late.length) == (3, 12)


def test_sessions_are_put_together_in_order_of_appearance():
    a, b, alone = Row(1, 1, session="a"), Row(2, 1, session="b"), Row(3, 1)
    assert conversations([a, b, alone, a, alone, b]) == [[a, a], [b, b], [alone], [alone]]


def test_sessions_arrive_as_one_and_their_turns_wait():
    rows = [Row(i, i, session=str(i % 3)) for i in range(1, 10)]
    trace = trace_of(rows, Traffic(rate=1.0), num_requests=9)
    assert trace.num_sessions == 3
    assert len({request.arrival_time for request in trace.requests}) == 3
    assert trace.waits.count(None) == 3
    for request, wait in zip(trace.requests, trace.waits, strict=True):
        if wait is not None:
            (before,) = wait.requests
            assert trace.requests[before].arrival_time == request.arrival_time
            assert trace.requests[before].reply_len == request.reply_len - 3
    assert trace.arrival == "poisson at 1 sessions/s"
    assert trace.realised_rate == 3 / trace.last_arrival


@pytest.mark.parametrize(("number", "sessions"), [(4, 2), (7, 3), (9, 3), (10, 4)])
def test_the_number_of_requests_is_exact(number: int, sessions: int):
    rows = [Row(5, 5, session=str(i // 3)) for i in range(9)]
    trace = trace_of(rows, Traffic(rate=1.0), num_requests=number)
    assert (len(trace.requests), trace.num_sessions) == (number, sessions)


def test_own_times_are_kept_for_every_turn():
    rows = [Row(1, 1, None, 1.0, "a"), Row(1, 1, None, 2.0, "b"), Row(1, 1, None, 3.0, "a")]
    trace = trace_of(rows, Traffic(arrival="trace"), num_requests=3)
    assert [request.arrival_time for request in trace.requests] == [1.0, 2.0, 3.0]
    assert trace.waits == (None, None, Wait((0,)))


def test_the_hash_sees_who_waits():
    waiting, alone = (
        trace_of(
            [Row(5, 5, session="a"), Row(5, 5, (1, 2, 3, 4, 5), session=s)], traffic=Traffic(rate=math.inf)
        )
        for s in ("a", "b")
    )
    assert waiting.requests[0].prompt == alone.requests[0].prompt
    assert waiting.sha256 != alone.sha256


# Arrivals


def requests(*times: float) -> list[Request]:
    return [Request(i, time, Prompt(5), SamplingParams(5)) for i, time in enumerate(times)]


def group(request: Request) -> SequenceGroup:
    return SequenceGroup(request, order=0)


def test_a_turn_is_due_when_the_one_before_has_left():
    items = requests(1.0, 1.0, 1.0, 4.0)
    source = SessionArrivals(items, [None, Wait((0,)), Wait((1,)), None])
    assert (source.due(0.5), source.next_time, source.has_more) == ([], 1.0, True)
    assert source.due(1.0) == [items[0]]
    assert source.due(3.0) == []
    source.completed([group(items[0])], 3.0)
    (second,) = source.due(3.5)
    assert (second.request_id, second.arrival_time) == (1, 3.0)
    assert source.next_time == 4.0
    assert [request.request_id for request in source.due(9.0)] == [3]
    assert (source.next_time, source.has_more) == (None, True)  # the last turn waits for its reply
    source.completed([group(second)], 9.5)
    assert source.due(10.0)[0].arrival_time == 9.5
    assert not source.has_more


def test_a_turn_keeps_its_own_time_if_that_is_later():
    items = requests(1.0, 8.0)
    source = SessionArrivals(items, [None, Wait((0,))])
    source.due(1.0)
    source.completed([group(items[0])], 2.0)
    assert (source.due(7.9), source.next_time) == ([], 8.0)
    assert source.due(8.0) == [items[1]]


def test_requests_are_handed_over_in_order_of_time():
    items = requests(0.0, 0.0, 2.9)
    source = SessionArrivals(items, [None, Wait((0,)), None])
    source.due(0.0)
    source.completed([group(items[0])], 3.0)
    assert [request.request_id for request in source.due(3.0)] == [2, 1]


# Text


def test_every_answered_turn_of_a_conversation_is_a_row():
    reading = chats(
        [("human", "ab"), ("gpt", "c"), ("human", "de"), ("gpt", "fgh"), ("human", "unanswered")],
        [("gpt", "hi"), ("system", "s"), ("human", "x"), ("human", "y"), ("gpt", "z")],
        [("human", "no reply")],
    )
    shown = [(row.prompt_ids, row.output_len, row.session) for row in reading.rows]
    letters = [2, *map(ord, "abcde")]
    assert shown == [
        (tuple(letters[:3]), 1, "1"),
        (tuple(letters), 3, "1"),
        ((2, *map(ord, "hisxy")), 1, "2"),  # one BOS, at the very beginning
    ]
    assert (reading.num_unreadable, reading.is_text) == (1, True)
    assert reading.rows[0].token_ids is reading.rows[1].token_ids  # kept once a conversation


def test_long_conversations_are_whole():
    reading = chats([("human", "a" * 1500), ("gpt", "b" * 1500), ("human", "c"), ("gpt", "d")])
    first, second = reading.rows
    assert (first.prompt_ids, first.output_len) == ((2, *[ord("a")] * 1500), 1500)
    assert (second.prompt_len, second.output_len) == (3002, 1)
    trace = trace_of(list(reading.rows), Traffic(rate=math.inf), max_model_len=4096)
    assert [request.prompt.token_ids for request in trace.requests] == [first.prompt_ids, second.prompt_ids]
    assert trace.waits == (None, Wait((0,)))
    short = trace_of(list(reading.rows), Traffic(rate=math.inf), max_model_len=3002)
    assert [request.prompt_len for request in short.requests] == [1501]


def test_chat_needs_conversations(tmp_path):
    (tmp_path / "a.csv").write_text("prompt_len,output_len,session\n3,4,a\n")
    assert load_dataset(tmp_path / "a.csv", chat=True).rows == (Row(3, 4, session="a"),)
    (tmp_path / "b.csv").write_text("prompt_len,output_len\n3,4\n")
    for name in (tmp_path / "b.csv", "sharegpt"):
        with pytest.raises(TraceError, match="no conversations, which --chat needs"):
            load_dataset(name, chat=True)


def test_real_conversations(test_data):
    folder = test_data / "sharegpt"
    name, tokenizer = folder / "fastchat_dummy_conversation.json.gz", test_data / "tokenizers" / "opt"
    chat, single = (load_dataset(name, tokenizer, chat=chat) for chat in (True, False))
    assert len(chat.rows) > len(single.rows)
    assert single.rows[0].token_ids == chat.rows[0].prompt_ids
    assert {row.prompt_len for row in chat.rows} > {row.prompt_len for row in single.rows}


# Several replies, pauses, and closed loops


def test_a_request_waits_for_all_its_replies_and_then_for_its_pause():
    items = requests(0.0, 0.0, 0.0, 0.0)
    waits = [None, Wait((0,), pause=1.0), Wait((0,)), Wait((1, 2), pause=2.0)]
    source = SessionArrivals(items, waits)
    source.due(0.0)
    source.completed([group(items[0])], 4.0)
    beside, agent = source.due(5.0)
    assert [(r.request_id, r.arrival_time) for r in (beside, agent)] == [(2, 4.0), (1, 5.0)]
    source.completed([group(beside)], 6.0)
    assert source.next_time is None
    source.completed([group(agent)], 9.0)
    assert [r.arrival_time for r in source.due(11.0)] == [11.0]


def test_spacing_counts_from_the_sending_of_the_turn_before():
    items = requests(0.0, 0.0, 0.0)
    source = SessionArrivals(items, [None, Wait((0,), spacing=8.0, pause=1.0), Wait((1,), spacing=2.0)])
    source.due(0.5)
    source.completed([group(items[0])], 3.0)  # earlier than in the trace
    (second,) = source.due(9.0)
    assert second.arrival_time == 9.0
    source.completed([group(second)], 20.0)  # later than in the trace
    assert source.due(20.0)[0].arrival_time == 20.0


def test_clients_have_one_session_at_a_time():
    items = requests(0.0, 0.0, 0.0, 0.0, 0.0)
    waits = [None, Wait((0,)), None, None, Wait((3,))]  # sessions of 2, 1 and 2 turns
    source = SessionArrivals(items, waits, Clients(2, (0.0, 9.0, 1.0, 3.0, 9.0)))
    assert [r.request_id for r in source.due(0.0)] == [0]
    assert [(r.request_id, r.arrival_time) for r in source.due(1.0)] == [(2, 1.0)]
    source.completed([group(items[0])], 2.0)
    assert [r.request_id for r in source.due(2.0)] == [1]  # the first client is in its session still
    source.completed([group(items[2])], 4.0)
    assert source.next_time == 7.0  # the second one begins the third session, after its pause
    source.completed([group(items[1])], 5.0)  # no session is left for the first
    assert [r.request_id for r in source.due(7.0)] == [3]
    source.completed([group(items[3])], 8.0)
    assert [(r.request_id, r.arrival_time) for r in source.due(8.0)] == [(4, 8.0)]
    assert not source.has_more


def test_a_closed_loop_of_a_trace():
    rows = [Row(5, 2), Row(7, 3), Row(9, 4)]
    trace = trace_of(rows, Traffic("closed", max_concurrency=2, think_time=3.0), seed=1)
    assert len(trace.requests) == 20
    assert trace.clients is not None
    assert trace.arrival == "closed loop of 2 clients with a mean pause of 3 s"
    again = trace_of(rows, Traffic("closed", max_concurrency=2, think_time=6.0), seed=1)
    assert again.clients is not None
    assert again.clients.pauses == pytest.approx([2 * pause for pause in trace.clients.pauses])
    assert (trace.sha256, trace.arrivals_sha256 == again.arrivals_sha256) == (again.sha256, False)


def turn(number: int, *waits_for: int, **times: float) -> Row:
    """A turn of a session of agents, whose prompts are known by the ids of their blocks."""
    blocks = BlockIds((number,), 1000)
    return Row(10 + number, 3, session="s", blocks=blocks, turn=Turn(number, waits_for, **times))


TURNS = [
    turn(0),
    turn(1, 0, think_time=4.0, gap=9.0, api_time=5.0),
    turn(2, 0, think_time=1.0, gap=6.0, api_time=5.0),  # runs beside turn 1
    turn(3, 1, 2, think_time=2.0, gap=7.0, api_time=4.0),
]


@pytest.mark.parametrize(
    ("traffic", "waits"),
    [
        (Traffic(rate=1.0), [None, Wait((0,), 4.0), Wait((0,), 1.0), Wait((1, 2), 2.0)]),
        (
            Traffic(rate=1.0, turn_times="recorded", time_scale=2.0),
            [None, Wait((0,), 0.0, 18.0), Wait((0,), 0.0, 12.0), Wait((1, 2), 0.0, 14.0)],
        ),
        (
            Traffic(rate=1.0, turn_times="api", time_scale=0.5),
            [None, Wait((0,), 4.0, 2.5), Wait((0,), 1.0, 2.5), Wait((1, 2), 2.0, 2.0)],
        ),
    ],
)
def test_turns_follow_by_their_think_time_or_as_recorded(traffic, waits):
    assert trace_of(TURNS, traffic, num_requests=4).waits == tuple(waits)


def test_who_waits_for_a_turn_that_was_dropped_waits_for_the_latest_one():
    rows = [TURNS[0], TURNS[1]._replace(prompt_len=999), *TURNS[2:]]
    trace = trace_of(rows, Traffic(rate=1.0), num_requests=3, max_model_len=500)
    assert trace.waits == (None, Wait((0,), 1.0), Wait((1,), 2.0))


@pytest.mark.parametrize("seed", range(100))
def test_no_turn_starts_before_what_it_waits_for_has_left(seed):
    """Requests finish at random moments after they were sent, and every one is sent."""
    choose = random.Random(seed)
    number = choose.randrange(1, 13)
    items = requests(*(0.0 for _ in range(number)))
    waits: list[Wait | None] = []
    sessions: list[list[int]] = []
    for index in range(number):
        session = choose.choice([[], *sessions])
        before = tuple(sorted(choose.sample(session, min(len(session), choose.randint(1, 3)))))
        waits.append(Wait(before, 5 * choose.random(), 5 * choose.random()) if before else None)
        sessions += [] if session else [session]
        session.append(index)
    clients = choose.choice((None, Clients(2, tuple(float(i) for i in range(number)))))
    source = SessionArrivals(items, waits, clients)
    sent: dict[int, float] = {}
    left: dict[int, float] = {}
    now, running = 0.0, list[Request]()
    while source.has_more or running:
        assert running or source.next_time is not None, "nothing will ever happen"
        for request in source.due(now):
            assert request.request_id not in sent
            sent[request.request_id] = request.arrival_time
            running.append(request)
            wait = waits[request.request_id]
            if wait is not None:
                assert request.arrival_time == max(
                    max(left[before], sent[before] + wait.spacing) + wait.pause for before in wait.requests
                )
        if running and choose.random() < 0.5:
            done = running.pop(choose.randrange(len(running)))
            left[done.request_id] = now
            source.completed([group(done)], now)
        else:
            now = max(now, now + 1.0 if source.next_time is None else source.next_time)
    assert len(left) == number
