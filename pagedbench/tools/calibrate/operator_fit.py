"""Fits operator times to a folder of measurements, and tests the fits on held-out models and degrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.operator_times import ELEMENT_SIZE, MatrixTimes, PassTimes, parameters_of
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_formula

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pandas import DataFrame

    Vector = NDArray[np.float64]

CARD = CARDS["a100-80gb"]
MODELS = ("llama-2-7b", "internlm-20b", "llama-2-70b")
RANKS = (1, 2, 4, 8)

MATRICES = ("qkv", "out", "up", "down")
PASSES = {"norm": 2, "rotary": 1, "activation": 1, "add": 1}
"""Passes of each kind per layer."""

_FIRST_MATRIX = MatrixTimes(4e-6, 0.85, 0.78, 2.5, 0.98, 0.92)
_FIRST_PASS = PassTimes(5e-6, 0.4, 5e-6, 0.4, 5e-6, 0.5, 2e-6, 0.6)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows that were held out from a fit, and the errors on their layers and matrix products."""

    what: str
    layers: Errors
    products: Errors


def read_measured(folder: Path) -> DataFrame:
    """The tables of Vidur's operator times (MIT): `<model>.csv.gz`.

    Returns:
        One row per model, `ranks` and `tokens`, about one layer: for each matrix its `_inner` size,
        `_columns` and seconds (`_s`); for all passes of a kind together `_bytes` and seconds.

    Raises:
        ConfigError: a table is missing or has other columns.
    """
    import pandas as pd

    tables = []
    for model in MODELS:
        path = folder / f"{model}.csv.gz"
        try:
            tables.append(pd.read_csv(path).assign(model=model))
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror or error}: give the folder of Vidur's operator times"
            ) from None
    try:
        return _operators(pd.concat(tables, ignore_index=True))
    except KeyError as error:
        raise ConfigError(f"the tables in {folder} have no column {error}: give Vidur's own") from None


def _operators(table: DataFrame) -> DataFrame:
    import pandas as pd

    hidden, ranks, tokens = (
        table[name] for name in ("n_embd", "num_tensor_parallel_workers", "num_tokens")
    )
    heads, ffn = table["n_head"], table["n_expanded_embd"] / ranks
    head_dim, kv_heads = hidden // heads, table["n_kv_head"]
    row = ELEMENT_SIZE * tokens  # bytes of one number per token
    norms = table["input_layernorm_ms"] + table["post_attention_layernorm_ms"]
    matrices = {
        "qkv": (hidden, (heads + 2 * kv_heads) * head_dim / ranks, table["attn_pre_proj_ms"]),
        "out": (heads * head_dim / ranks, hidden, table["attn_post_proj_ms"]),
        "up": (hidden, 2 * ffn, table["mlp_up_proj_ms"]),
        "down": (ffn, hidden, table["mlp_down_proj_ms"]),
    }
    passes = {
        "norm": (row * 2 * hidden, norms),
        "rotary": (row * 2 * (heads + kv_heads) * head_dim / ranks, table["attn_rope_ms"]),
        "activation": (row * 3 * ffn, table["mlp_act_ms"]),
        "add": (row * 3 * hidden, table["add_ms"]),
    }
    found = pd.DataFrame({"model": table["model"], "ranks": ranks, "tokens": tokens.astype(float)})
    for name, (inner, columns, ms) in matrices.items():
        found[f"{name}_inner"], found[f"{name}_columns"] = inner.astype(float), columns.astype(float)
        found[f"{name}_s"] = ms * 1e-3
    for name, (size, ms) in passes.items():
        found[f"{name}_bytes"], found[f"{name}_s"] = size.astype(float), ms * 1e-3
    return found


def fit_matrices(data: DataFrame) -> MatrixTimes:
    """Fit one formula to all matrix products of the rows."""

    def formula(parameters: Vector) -> Vector:
        return np.concatenate(products(MatrixTimes(*parameters), data))

    measured = np.concatenate(_seconds(data, *MATRICES))
    return MatrixTimes(*map(float, fit_formula(formula, measured, parameters_of(_FIRST_MATRIX))))


def fit_passes(data: DataFrame) -> PassTimes:
    """Fit one formula to all passes of the rows."""

    def formula(parameters: Vector) -> Vector:
        return np.concatenate(_passes(PassTimes(*parameters), data))

    measured = np.concatenate(_seconds(data, *PASSES))
    return PassTimes(*map(float, fit_formula(formula, measured, parameters_of(_FIRST_PASS))))


def products(times: MatrixTimes, data: DataFrame) -> list[Vector]:
    """The seconds of each of `MATRICES` according to the formula.  # [num_rows] each"""
    found = []
    for name in MATRICES:
        tokens, inner, columns = _columns(data, "tokens", f"{name}_inner", f"{name}_columns")
        found.append(times.seconds(tokens, inner, columns, CARD))
    return found


def _passes(times: PassTimes, data: DataFrame) -> list[Vector]:
    sizes = _columns(data, *(f"{kind}_bytes" for kind in PASSES))
    pairs = zip(PASSES.items(), sizes, strict=True)
    return [count * times.seconds(kind, size, CARD) for (kind, count), size in pairs]


def _seconds(data: DataFrame, *names: str) -> list[Vector]:
    return _columns(data, *(f"{name}_s" for name in names))


def _columns(data: DataFrame, *names: str) -> list[Vector]:
    return [data[name].to_numpy() for name in names]


def errors_on(data: DataFrame, matrices: MatrixTimes, passes: PassTimes) -> tuple[Errors, Errors]:
    """The errors of whole layers, and of single matrix products."""
    single = products(matrices, data)
    layers = np.sum([*single, *_passes(passes, data)], axis=0)
    measured = np.sum(_seconds(data, *MATRICES, *PASSES), axis=0)
    of_products = errors_of(np.concatenate(single), np.concatenate(_seconds(data, *MATRICES)))
    return errors_of(layers, measured), of_products


def held_out_errors(data: DataFrame) -> list[HeldOut]:
    """Each model at each parallel degree, predicted from the other models at the other degrees."""
    found = []
    for model in MODELS:
        for ranks in RANKS:
            is_model, is_degree = data["model"] == model, data["ranks"] == ranks
            seen, held_out = data[~is_model & ~is_degree], data[is_model & is_degree]
            errors = errors_on(held_out, fit_matrices(seen), fit_passes(seen))
            found.append(HeldOut(f"{model} on {ranks}", *errors))
    return found
