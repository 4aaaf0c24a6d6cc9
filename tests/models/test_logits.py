"""Both model families give the logits of transformers, layer by layer in the same order."""

from __future__ import annotations

import pytest
import torch

from models.folders import hugging_face_logits, load_hugging_face, make_llama_folder, make_opt_folder
from pagedbench.models.loader import load_model

PROMPT = [5, 199, 0, 17, 17, 3, 120, 88, 54, 2, 1, 77, 150, 33, 9, 61, 42]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
OPT_VARIANTS = {
    "plain": {},
    "gelu": {"activation_function": "gelu", "seed": 1},
    "gelu_new": {"activation_function": "gelu_new"},
    "no-bias": {"enable_bias": False},
    "norm-without-weights": {"layer_norm_elementwise_affine": False},
    "untied": {"tie_word_embeddings": False},
}
LLAMA_VARIANTS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True, "seed": 1},
    "multi-query": {"num_kv_heads": 1},
    "multi-head": {"num_kv_heads": 4},
    "wide-heads": {"head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rms_norm_eps": 1e-2},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "llama3-rope": {"rope_parameters": LLAMA3},
}


class CausalAttention:
    """Attention of one whole prompt, with nothing cached."""

    decodes = None

    def __call__(self, layer, query, key, value, rotation, rows=None):
        if rotation is not None:
            query, key = turned(query, rotation), turned(key, rotation)
        group_size = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group_size, 1), value.repeat_interleave(group_size, 1)
        scores = torch.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
        hidden = torch.ones(len(query), len(query), dtype=torch.bool).triu(1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        out = torch.einsum("hqk,khd->qhd", weights, value)
        return out if rows is None else out[rows]


def turned(x, rotation):
    first, second = x.float().chunk(2, dim=-1)
    cosine, sine = rotation.cosine[:, None], rotation.sine[:, None]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1).to(x.dtype)


def our_logits(folder, dtype=torch.float32, rows=range(17)):
    model = load_model(str(folder), dtype=dtype).model
    with torch.inference_mode():
        positions, rows = torch.arange(len(PROMPT)), torch.tensor(list(rows), dtype=torch.int64)
        return model.logits(model.forward(torch.tensor(PROMPT), positions, CausalAttention(), rows))


@pytest.mark.parametrize("variant", OPT_VARIANTS)
def test_opt_matches_transformers(tmp_path, variant):
    folder = make_opt_folder(tmp_path, **OPT_VARIANTS[variant])
    expected = hugging_face_logits(folder, PROMPT)
    assert expected.std() > 0.5
    assert (our_logits(folder) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("variant", LLAMA_VARIANTS)
def test_llama_matches_transformers(tmp_path, variant):
    folder = make_llama_folder(tmp_path, **LLAMA_VARIANTS[variant])
    expected = hugging_face_logits(folder, PROMPT)
    assert expected.std() > 0.5
    assert (our_logits(folder) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("make_folder", [make_opt_folder, make_llama_folder])
@pytest.mark.parametrize("rows", [(), (16,), (0, 3, 4, 15)])
def test_the_last_layer_computes_any_rows(tmp_path, make_folder, rows):
    folder = make_folder(tmp_path)
    some = our_logits(folder, rows=rows)
    assert some.shape == (len(rows), 200)
    assert torch.allclose(some, our_logits(folder)[list(rows)], atol=1e-5)


@pytest.mark.parametrize("make_folder", [make_opt_folder, make_llama_folder])
def test_the_greedy_token_is_that_of_the_largest_logit(tmp_path, make_folder):
    model = load_model(str(make_folder(tmp_path))).model
    states = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.greedy(states), model.logits(states).argmax(-1))


@pytest.mark.parametrize("make_folder", [make_opt_folder, make_llama_folder])
def test_bfloat16_is_as_near_to_float32_as_transformers_is(tmp_path, make_folder):
    folder = make_folder(tmp_path)
    exact = hugging_face_logits(folder, PROMPT)
    ours = our_logits(folder, torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    with torch.no_grad():
        theirs = load_hugging_face(folder, torch.bfloat16)(torch.tensor([PROMPT])).logits[0]
    assert (ours - exact).abs().mean() < 2 * (theirs - exact).abs().mean()
