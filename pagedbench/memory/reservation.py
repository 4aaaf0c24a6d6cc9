"""How long an extent Orca reserves for a reply: Oracle, Pow2 or Max (paper, section 6.1)."""

from __future__ import annotations


def oracle(output_len: int, max_model_len: int) -> int:
    """The true length, which no real system knows."""
    return output_len


def pow2(output_len: int, max_model_len: int) -> int:
    """The true length rounded up to a power of two: at most twice too much (25 -> 32)."""
    return 1 << max(output_len - 1, 0).bit_length()


def maximum(output_len: int, max_model_len: int) -> int:
    """Whatever the model could still produce."""
    return max_model_len
