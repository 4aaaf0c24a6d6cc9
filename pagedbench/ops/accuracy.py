"""How far an operation's result may be from its definition: an error bound for each element.

The bounds follow from the arithmetic and hold for every backend. Backends are not compared with each
other, because the errors of one may be small by luck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from pagedbench.ops.quantized import LARGEST

if TYPE_CHECKING:
    from torch import Tensor

MAX_DEVIATIONS = 10
"""A random walk of rounding errors exceeds this many standard deviations with probability below 1e-22."""

EXP_ULPS = 20
"""Units in the last place by which exp may be wrong: PyTorch's fast exp promises 20, the others 2."""

CURVE_ROUNDINGS = 8
"""Roundings of x * sigmoid(t) or x * (1 + erf(t)) / 2, relative to x: less than one from t, whose own two
count by the slope (t * sigmoid'(t) < 1/4); four of exp or erf; a sum, a quotient and a product.
"""

STEEPEST = {"gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1}
"""The largest slope of each activation, by which an error of its argument grows."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """The exact result and the allowed error of each element; both float64, of the result's shape."""

    exact: Tensor
    error: Tensor

    def share(self, out: Tensor) -> float:
        """The largest error of `out`, as a share of the allowed one: above 1, or NaN, `out` is wrong."""
        assert out.shape == self.exact.shape, f"{tuple(out.shape)} is not {tuple(self.exact.shape)}"
        shares = (out.double() - self.exact).abs() / self.error
        return float(shares.max()) if shares.numel() else 0.0


def accumulated(num_roundings: int, dtype: torch.dtype) -> float:
    """The error of a sum after `num_roundings` roundings, as a share of the sum of absolute terms.

    At worst gamma_n = n u / (1 - n u) (Higham 2002, section 3.1). Rounding errors of random numbers are a
    random walk, so n counts as at most `MAX_DEVIATIONS` times its square root (Higham and Mary 2019).
    Backends sum in float32 at least; u is twice its unit roundoff, because tensor cores truncate.
    """
    unit = torch.finfo(dtype if dtype == torch.float64 else torch.float32).eps
    grown = min(num_roundings, MAX_DEVIATIONS * num_roundings**0.5) * unit
    return grown / (1 - grown)


def rounded(exact: Tensor, error: Tensor, dtype: torch.dtype) -> Tensor:
    """The error of a result with the error `error` after it is rounded to `dtype`."""
    info = torch.finfo(dtype)
    return error + info.eps / 2 * (exact.abs() + error) + info.smallest_normal * info.eps


def bounded_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Bounded:
    """Bound `linear(weight, bias, activation)(x)`: sums of in_features products and a bias.

    A backend may round the product to the dtype before the activation, and a gate before it multiplies.
    """
    wide, wide_weight = x.double(), weight.double()
    wide_bias = torch.zeros_like(wide_weight[:, 0]) if bias is None else bias.double()
    exact = F.linear(wide, wide_weight, wide_bias)  # [num_tokens, num_rows]
    magnitude = F.linear(wide.abs(), wide_weight.abs(), wide_bias.abs())
    error = rounded(exact, accumulated(x.shape[1] + 1, x.dtype) * magnitude, x.dtype)
    if activation != "silu_gated":
        return _activated(exact, error, activation, x.dtype)
    (gate, up), (gate_error, up_error) = exact.chunk(2, dim=-1), error.chunk(2, dim=-1)
    silu = _activated(gate, gate_error, "silu", x.dtype)
    error = silu.error * up.abs() + (silu.exact.abs() + silu.error) * up_error
    return Bounded(silu.exact * up, rounded(silu.exact * up, error, x.dtype))


def _activated(x: Tensor, error: Tensor, activation: str, dtype: torch.dtype) -> Bounded:
    """Bound an activation of an `x` that has the error `error`."""
    if activation in ("none", "relu"):
        return Bounded(x.relu() if activation == "relu" else x, error)
    if activation == "silu":
        exact = F.silu(x)
    else:
        exact = F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")
    error = STEEPEST[activation] * error + accumulated(CURVE_ROUNDINGS, dtype) * (x.abs() + error)
    return Bounded(exact, rounded(exact, error, dtype))


def bounded_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
    *,
    is_quantized: bool = False,
) -> Bounded:
    """Bound causal attention of the last tokens of a context.

    Args:
        query: [num_rows, num_heads, head_dim].
        key, value: [context_len, num_kv_heads, head_dim].
        softcap, sink_logits: see `Ops.attend_decode`.
        is_quantized: attention reads these keys and values in 8 bits.
    """
    group_size = query.shape[1] // key.shape[1]
    if sink_logits is None:
        sink_logits = torch.full((query.shape[1],), float("-inf"), device=query.device)
    steps = [
        _half_steps(side) if is_quantized else torch.zeros_like(side, dtype=torch.float64)
        for side in (key, value)
    ]
    heads = []
    groups = zip(query.split(group_size, dim=1), sink_logits.split(group_size), strict=True)
    for kv_head, (rows, sinks) in enumerate(groups):
        own_key, own_value, key_steps, value_steps = (side[:, kv_head] for side in (key, value, *steps))
        heads.append(
            _bounded_group(rows, own_key, own_value, key_steps, value_steps, scale, softcap, sinks)
        )
    exact, error = (torch.cat(sides, dim=1) for sides in zip(*heads, strict=True))
    return Bounded(exact, rounded(exact, error, query.dtype))


def _half_steps(x: Tensor) -> Tensor:
    """By how much each element may change when it is quantized (`quantized.quantized`).

    Half a scale; and scale, quotient and product are rounded to float32, the last two up to 127 scales.
    """
    wide = x.double()
    scales = wide.abs().amax(dim=-1, keepdim=True) / LARGEST  # [..., 1]
    return (scales * (0.5 + 3 * LARGEST * torch.finfo(torch.float32).eps)).expand_as(wide)


def _bounded_group(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_steps: Tensor,
    value_steps: Tensor,
    scale: float,
    softcap: float | None,
    sinks: Tensor,
) -> tuple[Tensor, Tensor]:
    """Bound the query heads that read one KV head, before the output is rounded.

    A weight exp(score - maximum) has the error of its score (a sum of head_dim products, scaled in at most
    6 roundings), that of the difference (relative to it, also where a running softmax gets there in steps),
    that of exp, and a rounding to the dtype. Numerator and denominator are sums over the context. A running
    softmax rescales them, by an exp and a product, once per 16 tokens at most: less than one more rounding
    per token. The error of the output is the weighted mean of the errors of the weights.

    The slope of a soft cap is at most 1; its tanh has the error of its exp, and 4 roundings. A sink logit
    counts as one more token, whose value is 0 and whose score is rounded once.
    A key whose elements have an error of one step each changes a score by the step times the sum of the
    query's absolute elements; the errors of values enter the output as their weighted mean.

    Args:
        query: [num_rows, group_size, head_dim].
        key, value: [context_len, head_dim].
        key_steps, value_steps: float64 [context_len, head_dim], the possible error of each element.
        sinks: [group_size].
    """
    dtype, info = query.dtype, torch.finfo(query.dtype)
    query, key, value = query.double(), key.double(), value.double()
    unseen = torch.ones(len(query), len(key), dtype=torch.bool, device=query.device)
    unseen = unseen.triu(len(key) - len(query) + 1)[:, None]  # [num_rows, 1, context_len]
    scores = query @ key.T * scale  # [num_rows, group_size, context_len]
    off = accumulated(query.shape[2] + 6, dtype) * abs(scale) * (query.abs() @ (key.abs() + key_steps).T)
    off += abs(scale) * (query.abs() @ key_steps.T)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
        off += (EXP_ULPS + 4) * accumulated(1, dtype) * softcap
    scores = scores.masked_fill(unseen, float("-inf"))
    sink = sinks.double()[None, :, None].expand(*scores.shape[:2], 1)
    scores = torch.cat((scores, sink), dim=-1)  # [num_rows, group_size, context_len + 1]
    is_nothing = scores == float("-inf")
    of_sink = accumulated(1, dtype) * sink.masked_fill(is_nothing[..., -1:], 0.0).abs()
    off = torch.cat((off, of_sink), dim=-1)
    value, value_steps = (F.pad(side, (0, 0, 0, 1)) for side in (value, value_steps))
    weights = scores.softmax(dim=-1)
    below = (scores.amax(dim=-1, keepdim=True) - scores).masked_fill(is_nothing, 0.0)
    off += accumulated(2, dtype) * below + EXP_ULPS * accumulated(1, dtype) + info.eps / 2
    off += accumulated(2 * len(key), dtype)
    off = weights * off.expm1() + info.smallest_normal * info.eps  # [num_rows, group_size, context_len + 1]
    total_off = off.sum(dim=-1, keepdim=True)
    exact = weights @ value  # [num_rows, group_size, head_dim]
    error = off @ value.abs() + exact.abs() * total_off + (weights + off) @ value_steps
    return exact, error / (1 - total_off)


def bounded_norm(
    hidden: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, *, is_rms: bool
) -> Bounded:
    """Bound a norm over the last dimension.

    The mean is a sum; the error of the variance, a sum of squares around it, grows with the ratio of the
    mean to the deviation (Chan, Golub and LeVeque 1983). A backend may multiply out (x - mean) * scale, and
    may round the normed value (root mean square 1) before it multiplies by the weight.
    """
    dtype, x = hidden.dtype, hidden.double()
    of_sums, of_steps = accumulated(x.shape[-1] + 6, dtype), accumulated(4, dtype)
    mean = torch.zeros_like(x[..., :1]) if is_rms else x.mean(-1, keepdim=True)
    of_mean = 0.0 if is_rms else of_sums * x.abs().mean(-1, keepdim=True)
    square = (x - mean).square().mean(-1, keepdim=True) + epsilon
    condition = (x.square().mean(-1, keepdim=True) / square).sqrt().clamp(min=1.0)
    of_scale = of_sums * condition + of_mean**2 / square + of_steps
    normed = (x - mean) / square.sqrt()
    error = (of_mean + of_steps * (x.abs() + mean.abs())) / square.sqrt()
    error = error + (normed.abs() + error) * of_scale
    if is_rms:
        error = rounded(normed, error, dtype)
    if weight is not None:
        normed, error = normed * weight.double(), error * weight.double().abs()
    exact = normed if bias is None else normed + bias.double()
    return Bounded(exact, rounded(exact, error + of_steps * (normed.abs() + exact.abs()), dtype))


def bounded_rotation(x: Tensor, cosine: Tensor, sine: Tensor) -> Bounded:
    """Bound the rotation of `x`, [num_tokens, num_heads, head_dim], by its tokens' angles.

    Each element is a sum of two products.

    Args:
        cosine, sine: float32 [num_tokens, head_dim / 2].
    """
    first, second = x.double().chunk(2, dim=-1)
    cosine, sine = cosine.double()[:, None], sine.double()[:, None]  # [num_tokens, 1, head_dim / 2]
    exact = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    first, second, cosine, sine = (side.abs() for side in (first, second, cosine, sine))
    magnitude = torch.cat((first * cosine + second * sine, second * cosine + first * sine), dim=-1)
    return Bounded(exact, rounded(exact, accumulated(2, x.dtype) * magnitude, x.dtype))
