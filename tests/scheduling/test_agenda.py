from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pagedbench.scheduling.agenda import Agenda

STEPS = st.lists(
    st.tuples(st.sampled_from(["move", "remove", "take", "postpone"]), *[st.integers(0, 5)] * 2)
)


@given(STEPS)
def test_items_are_due_when_they_were_last_planned(steps: list[tuple[str, int, int]]) -> None:
    agenda, planned = Agenda[int](), dict[int, int]()
    for name, number, when in steps:
        due = [item for item, planned_for in planned.items() if planned_for == when]
        if name == "move":
            agenda.move(when, number)
            planned[number] = when
        elif name == "remove":
            agenda.remove(number)
            planned.pop(number, None)
        elif name == "take":
            assert sorted(agenda.take(when)) == sorted(due)
            planned = {item: planned_for for item, planned_for in planned.items() if planned_for != when}
        elif due:
            assert set(agenda.postpone(when, when + number + 1)) >= set(due)
            planned |= dict.fromkeys(due, when + number + 1)
        assert agenda.next_due == min(planned.values(), default=math.inf)
        for item in range(6):
            assert [agenda.is_due(item, when) for when in range(7)] == [
                planned.get(item) == when for when in range(7)
            ]
        assert [agenda.num_due(when) for when in range(12)] == [
            list(planned.values()).count(when) for when in range(12)
        ]
