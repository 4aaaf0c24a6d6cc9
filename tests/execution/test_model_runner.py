"""Greedy tokens equal transformers', however the batch is composed and wherever the tokens lie."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.driver import Driver
from execution.pools import back, out
from models.folders import hugging_face_greedy, hugging_face_logits, make_llama_folder, make_opt_folder
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import Extent
from pagedbench.prompt import Prompt
from pagedbench.scheduling.batch import Prefill

VOCAB_SIZE = 200
PROMPT_LENS = [1, 7, 16, 33, 4]
REPLY_LENS = [9, 3, 12, 6, 1]
PROMPTS = [random.Random(n).choices(range(VOCAB_SIZE), k=n) for n in PROMPT_LENS]
MODELS = {
    "opt": lambda path: make_opt_folder(path, seed=5),
    "llama": lambda path: make_llama_folder(path, seed=4, num_layers=3),
    "llama-tied": lambda path: make_llama_folder(path, seed=5, num_kv_heads=1, tie_word_embeddings=True),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are tiny: a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=MODELS)
def folder(request, tmp_path_factory):
    return MODELS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def expected(folder):
    replies = hugging_face_greedy(folder, PROMPTS, REPLY_LENS)
    assert len({token for reply in replies for token in reply}) > 15, "a model that repeats proves little"
    return replies


@pytest.fixture(params=["paged", "contiguous"])
def attention(request):
    return request.param


@pytest.fixture(params=["auto", "reference"])
def kernels(request):
    return request.param


def test_all_together(folder, expected, attention, kernels):
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention=attention, kernels=kernels)
    samples = driver.step(prefills=range(5))
    assert samples.sequences == driver.sequences
    assert samples.logprobs == [0.0] * 5
    driver.finish(range(5))
    assert driver.replies == expected


def test_prompts_join_while_others_decode(folder, expected, attention, kernels):
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention=attention, kernels=kernels)
    driver.step(prefills=[2])
    driver.step(prefills=[0, 3], decodes=[2])
    samples = driver.step(prefills=[4, 1], decodes=[3, 2, 0])
    assert samples.sequences == [driver.sequences[number] for number in (3, 2, 0, 4, 1)]
    driver.finish([1, 0, 2, 3])
    assert driver.replies == expected


def test_prompts_in_chunks(folder, expected, attention):
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention=attention, block_size=3)
    driver.step(prefills=[(0, 0, 1), (3, 0, 10)])
    samples = driver.step(prefills=[(3, 10, 11)])
    assert samples.sequences == samples.tokens == samples.logprobs == []
    samples = driver.step(prefills=[(3, 11, 32), (2, 0, 15)], decodes=[0])
    assert samples.sequences == [driver.sequences[0]]
    driver.step(prefills=[(2, 15, 16), (3, 32, 33), 1, 4], decodes=[0])
    driver.finish(range(5))
    assert driver.replies == expected


@pytest.mark.parametrize("extra", [0, 6])
def test_request_level_batch_with_padding_and_dead_sequences(folder, expected, extra, kernels):
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention="contiguous", kernels=kernels)
    driver.step(prefills=range(5), padded_len=max(PROMPT_LENS) + extra)
    for _ in range(max(REPLY_LENS) - 1):
        alive = [sequence for number, sequence in enumerate(driver.sequences) if not driver.is_done(number)]
        samples = driver.step(decodes=range(5), padded_len=max(PROMPT_LENS) + extra)
        assert samples.sequences == alive
    assert driver.replies == expected


def test_a_padded_batch_writes_its_tokens_and_nothing_else(folder):
    """Every slot that got a key belongs to a real token of a prompt."""
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention="contiguous")
    driver.step(prefills=range(5), padded_len=40)
    owned = torch.zeros(driver.cache.num_slots, dtype=torch.bool)
    for sequence in driver.sequences:
        owned[driver.memory.placement(sequence).slots(0, sequence.num_stored)] = True
    for tensor in driver.cache.tensors:
        assert torch.equal(tensor.isfinite().all(-1).all(-1), owned)


def test_the_iteration_after_the_last_reply_samples_nothing(folder):
    driver = Driver(folder, PROMPTS[:2], [1, 1], attention="contiguous")
    driver.step(prefills=[0, 1])
    assert driver.step(decodes=[0, 1]).sequences == []


def test_recomputed_after_preemption(folder, expected, attention):
    """Prompt and generated tokens are computed again, elsewhere."""
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention=attention)
    driver.step(prefills=[0, 2, 3])
    for _ in range(2):
        driver.step(decodes=[0, 2, 3])
    driver.poison()
    for number in (0, 2, 3):
        sequence = driver.sequences[number]
        driver.counters[number].count += 1  # the token sampled last is stored now, too
        driver.memory.place(sequence, sequence.group.final_len)
    driver.step(prefills=[3, (2, 0, 5)])
    driver.step(prefills=[(2, 5, 17), 0, 4], decodes=[3])
    driver.step(prefills=[(2, 17, 19), 1])
    driver.finish(range(5))
    assert driver.replies == expected


def test_copies_come_first_and_are_simultaneous(folder, expected):
    """Two sequences exchange their extents; a third moves by less than its length."""
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention="contiguous")
    one, two, three = (driver.sequences[number] for number in (0, 2, 3))
    places = driver.memory.placements
    places.update({one: Extent(0, 50), two: Extent(100, 50), three: Extent(200, 50)})
    driver.step(prefills=[0, 2, 3])
    driver.step(decodes=[0, 2, 3])
    places.update({one: Extent(100, 50), two: Extent(0, 50), three: Extent(198, 50)})
    lens = [sequence.num_stored for sequence in (one, two, three)]
    copies = [Copy(0, 100, lens[0]), Copy(100, 0, lens[1]), Copy(200, 198, lens[2])]
    driver.step(prefills=[1, 4], decodes=[3, 2, 0], copies=copies)
    driver.finish(range(5))
    assert driver.replies == expected


def test_out_to_the_host_then_back_then_copies_then_writes(folder):
    """One slot takes part in everything, so that each order gives other contents."""
    driver = Driver(folder, PROMPTS[:1], [2], attention="contiguous")
    driver.memory.placements[driver.sequences[0]] = Extent(40, 9)
    for tensor in driver.cache.tensors:
        tensor[:4] = torch.arange(4.0)[:, None, None]
    driver.step(prefills=[0], swap_outs=[out(1, 7, 1), out(2, 8, 2)])
    copies = [Copy(0, 1, 1), Copy(1, 20, 1), Copy(2, 40, 1)]
    driver.step(
        decodes=[0], swap_outs=[out(1, 9, 1)], copies=copies, swap_ins=[back(9, 2, 1), back(8, 41, 1)]
    )
    for tensor in driver.cache.tensors:
        assert tensor[[0, 1, 2, 20, 40]].flatten(1).unique(dim=1).tolist() == [
            [0.0],
            [0.0],
            [1.0],
            [1.0],
            [1.0],
        ]
        assert (tensor[41] != 2.0).all(), "the token that is computed now is written last"


def test_a_prompt_is_computed_once_for_all_that_share_it(folder, expected):
    """All samples of a request get their first token from one row."""
    driver = Driver(folder, PROMPTS, REPLY_LENS)
    others = [driver.sequences[number] for number in (2, 3)]
    prefill = Prefill(driver.sequences[1], 0, PROMPT_LENS[1], (driver.sequences[1], *others))
    samples = driver.step(prefills=[0, prefill, 4])
    assert samples.sequences == [driver.sequences[number] for number in (0, 1, 2, 3, 4)]
    first = [reply[0] for reply in expected]
    assert samples.tokens == [first[0], first[1], first[1], first[1], first[4]]


def test_logprobs_are_those_of_the_chosen_tokens(folder, expected):
    driver = Driver(folder, PROMPTS, REPLY_LENS, save_logprobs=True)
    driver.step(prefills=range(5))
    driver.finish(range(5))
    for prompt, reply, sequence in zip(PROMPTS, expected, driver.sequences, strict=True):
        logprobs = hugging_face_logits(folder, prompt + reply).log_softmax(-1)
        picked = [logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(reply)]
        assert sequence.cumulative_logprob == pytest.approx(sum(picked), abs=1e-3)


def test_bfloat16(folder, attention):
    """In half the bits the likelihood of what it says is still that of the model."""
    driver = Driver(
        folder, PROMPTS, REPLY_LENS, attention=attention, dtype=torch.bfloat16, save_logprobs=True
    )
    driver.step(prefills=range(5))
    driver.finish(range(5))
    for prompt, sequence in zip(PROMPTS, driver.sequences, strict=True):
        reply = sequence.output_ids
        logprobs = hugging_face_logits(folder, prompt + reply).log_softmax(-1)
        picked = [logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(reply)]
        assert sequence.cumulative_logprob / len(reply) == pytest.approx(sum(picked) / len(reply), abs=0.15)


def test_prompts_known_by_their_length(folder):
    prompts = [Prompt(12, seed=8), Prompt(12, seed=9)]
    driver = Driver(folder, prompts, [5, 5])
    driver.step(prefills=[0, 1])
    driver.finish([0, 1])
    ids = [prompt.ids(VOCAB_SIZE).tolist() for prompt in prompts]
    assert driver.replies == hugging_face_greedy(folder, ids, [5, 5])


@settings(max_examples=12)
@given(seed=st.integers(0, 2**32), block_size=st.integers(1, 20), is_paged=st.booleans())
def test_any_composition(folder, expected, seed, block_size, is_paged):
    """Prompts join at any time in parts of any length; any subset decodes."""
    chance = random.Random(seed)
    layout = "paged" if is_paged else "contiguous"
    driver = Driver(folder, PROMPTS, REPLY_LENS, attention=layout, block_size=block_size, seed=seed)
    computed = [0] * 5
    while not all(map(driver.is_done, range(5))):
        prefills, decodes = [], []
        for number, sequence in enumerate(driver.sequences):
            if driver.is_done(number) or chance.random() < 0.3:
                continue
            if computed[number] == PROMPT_LENS[number]:
                decodes.append(number)
            else:
                stop = chance.randint(computed[number] + 1, sequence.num_stored)
                prefills.append((number, computed[number], stop))
                computed[number] = stop
        chance.shuffle(prefills)
        chance.shuffle(decodes)
        if prefills or decodes:
            driver.step(prefills, decodes)
    assert driver.replies == expected


def test_a_trained_model_tells_its_story(test_data, attention):
    folder = test_data / "models" / "stories260K"
    reference = json.loads((folder / "expected_greedy.json").read_text())
    driver = Driver(
        folder / "hf", [reference["prompt_ids"]] * 2, [200, 150], attention=attention, block_size=16
    )
    driver.step(prefills=[0])
    driver.step(prefills=[1], decodes=[0])
    driver.finish([0, 1])
    assert driver.replies == [reference["greedy_ids_200"], reference["greedy_ids_200"][:150]]
