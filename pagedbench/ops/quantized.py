"""8-bit caches: how the elements of a head and their scale lie in a row, and which values they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.simulation.shapes import SCALE_SIZE

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 127
"""The largest int8 that is used, of either sign."""


def quantized(x: Tensor) -> Tensor:
    """Elements in 8 bits, and after each head its scale, a float32 that they are multiplied by.

    The scale is the largest absolute value / 127, in float32. Elements are rounded to nearest, ties to
    even, so the error of each is at most half a scale. The scale of a head that is not finite is NaN.

    Args:
        x: [..., head_dim]; head_dim is a multiple of 4, so that scales are aligned.

    Returns:
        int8 [..., head_dim + 4].
    """
    wide = x.float()
    scales = wide.abs().amax(dim=-1, keepdim=True) / LARGEST  # [..., 1]
    divisors = torch.where(scales > 0, scales, 1.0)
    elements = (wide / divisors).round().clamp(-LARGEST, LARGEST)
    scales = torch.where(scales.isfinite(), scales, torch.nan)
    return torch.cat((elements.nan_to_num().to(torch.int8), scales.view(torch.int8)), dim=-1)


def dequantized(cache: Tensor) -> Tensor:
    """The values of rows of a cache, of 8 bits or not.

    Args:
        cache: [..., head_dim], or int8 [..., head_dim + 4].

    Returns:
        [..., head_dim], in float32 if the cache has 8 bits.
    """
    if cache.dtype != torch.int8:
        return cache
    return cache[..., :-SCALE_SIZE].float() * scales_of(cache)[..., None]


def scales_of(cache: Tensor) -> Tensor:
    """The scales of an 8-bit cache, as a view.  # float32 [...]"""
    return cache.view(torch.float32)[..., -1]
