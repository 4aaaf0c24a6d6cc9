"""Prompts whose blocks a trace names by ids: their texts, and the keys by which they are found."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from pagedbench.prompt import Blocks, Prompt


def of_blocks(ids: tuple[int, ...], size: float, length: int, own_len: int = 0) -> Prompt:
    return Prompt(length + own_len, seed=length, prefix=(Blocks(ids, size, length),))


def test_an_id_in_its_place_is_the_same_text_in_every_prompt():
    first, second = of_blocks((7, 9, 4), 5, 14, 3), of_blocks((7, 9, 8, 6), 5, 18)
    assert first.contents()[:10].tolist() == second.contents()[:10].tolist()
    assert not set(first.contents()[10:].tolist()) & set(second.contents()[10:].tolist())
    assert first.ids(1000)[:10].tolist() == second.ids(1000)[:10].tolist()
    assert first.contents(6).tolist() == first.contents()[6:].tolist()
    assert len(first.contents()) == 17


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.sampled_from([0.4, 1, 2.5, 3, 7.3, 8]),
    st.integers(1, 9),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_keys_are_equal_exactly_where_the_ids_say_that_all_tokens_are(
    one, other, size, block_size, missing
):
    """Ids that stand for a whole beginning, as in a trace: the same id has the same blocks before it."""
    known: dict[tuple[int, ...], int] = {}
    prompts = []
    for choices, less in zip((one, other), missing, strict=True):
        ids = tuple(known.setdefault(tuple(choices[: i + 1]), len(known)) for i in range(len(choices)))
        length = int(size * len(ids) + 0.5) - less
        assume(length > 0)
        prompts.append(of_blocks(ids, size, length))
    keys = [prompt.block_keys(block_size) for prompt in prompts]
    texts = [prompt.contents() for prompt in prompts]
    for found, prompt in zip(keys, prompts, strict=True):
        assert len(found) == prompt.length // block_size
    for i, (mine, yours) in enumerate(zip(*keys, strict=False)):
        stop = (i + 1) * block_size
        assert (mine == yours) == (texts[0][:stop].tolist() == texts[1][:stop].tolist())
    assert not set(keys[0][len(keys[1]) :]) & set(keys[1])
