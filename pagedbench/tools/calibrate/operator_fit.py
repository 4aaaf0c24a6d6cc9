"""Fits operator times to a folder of measured ones, and says how well they predict what they never saw."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.operator_times import ELEMENT_SIZE, MatrixTimes, PassTimes, parameters_of
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_formula

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

CARD = CARDS["a100-80gb"]
MODELS = ("llama-2-7b", "internlm-20b", "llama-2-70b")
PASSES = ("norm", "rotary", "activation", "add")

_FIRST_MATRIX = MatrixTimes(4e-6, 0.85, 0.78, 2.5, 0.98, 0.92)
_FIRST_PASS = PassTimes(5e-6, 0.4, 5e-6, 0.4, 5e-6, 0.5, 2e-6, 0.6)


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows of measured times of one layer, one for each (model, ranks, tokens).

    Attributes:
        matrices: name -> inner size, columns and seconds, each [num_rows].
        passes: kind -> bytes and seconds of all passes of the kind, and how many there are.
    """

    models: NDArray[np.str_]  # [num_rows]
    ranks: Vector
    tokens: Vector
    matrices: dict[str, tuple[Vector, Vector, Vector]]
    passes: dict[str, tuple[Vector, Vector, int]]

    def pick(self, chosen: NDArray[np.bool_]) -> Measured:
        """Some of the rows."""
        return Measured(
            self.models[chosen],
            self.ranks[chosen],
            self.tokens[chosen],
            {name: (a[chosen], b[chosen], c[chosen]) for name, (a, b, c) in self.matrices.items()},
            {name: (a[chosen], b[chosen], n) for name, (a, b, n) in self.passes.items()},
        )

    @property
    def seconds(self) -> Vector:
        """Of all operators of the layer.  # [num_rows]"""
        times = [times for *_, times in self.matrices.values()]
        passes = (times for _, times, _ in self.passes.values())
        return np.asarray(np.sum([*times, *passes], axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What was kept from a fit, and the errors on it: of layers, and of single matrix products."""

    what: str
    layers: Errors
    products: Errors


def read_measured(folder: Path) -> Measured:
    """The tables of Vidur's operator times (MIT): `<model>.csv.gz`, a row for each ranks and tokens.

    Raises:
        ConfigError: a table is missing or has other columns.
    """
    columns: dict[str, list[float]] = {}
    models: list[str] = []
    for model in MODELS:
        path = folder / f"{model}.csv.gz"
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    models.append(model)
                    for name, text in row.items():
                        columns.setdefault(name, []).append(float(text) if name != "use_gated_mlp" else 0.0)
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror or error}: give the folder of Vidur's operator times"
            ) from None
    try:
        return _measured(models, {name: np.array(values) for name, values in columns.items()})
    except KeyError as error:
        raise ConfigError(f"the tables in {folder} have no column {error}: give Vidur's own") from None


def _measured(models: list[str], table: dict[str, Vector]) -> Measured:
    hidden, ranks, tokens = (
        table[name] for name in ("n_embd", "num_tensor_parallel_workers", "num_tokens")
    )
    heads, ffn = table["n_head"], table["n_expanded_embd"] / ranks
    head_dim, kv_heads = hidden // heads, table["n_kv_head"]
    attention = (heads + 2 * kv_heads) * head_dim / ranks
    seconds = {name: values * 1e-3 for name, values in table.items() if name.endswith("_ms")}
    norms = seconds["input_layernorm_ms"] + seconds["post_attention_layernorm_ms"]
    row = ELEMENT_SIZE * tokens  # bytes of one number a token
    return Measured(
        np.array(models),
        ranks,
        tokens,
        {
            "qkv": (hidden, attention, seconds["attn_pre_proj_ms"]),
            "out": (heads * head_dim / ranks, hidden, seconds["attn_post_proj_ms"]),
            "up": (hidden, 2 * ffn, seconds["mlp_up_proj_ms"]),
            "down": (ffn, hidden, seconds["mlp_down_proj_ms"]),
        },
        {
            "norm": (row * 2 * hidden, norms, 2),
            "rotary": (row * 2 * (heads + kv_heads) * head_dim / ranks, seconds["attn_rope_ms"], 1),
            "activation": (row * 3 * ffn, seconds["mlp_act_ms"], 1),
            "add": (row * 3 * hidden, seconds["add_ms"], 1),
        },
    )


def fit_matrices(data: Measured) -> MatrixTimes:
    """One formula for every matrix product of the rows."""

    def formula(parameters: Vector) -> Vector:
        return np.concatenate(list(_products(MatrixTimes(*parameters), data)))

    measured = np.concatenate([times for *_, times in data.matrices.values()])
    return MatrixTimes(*map(float, fit_formula(formula, measured, parameters_of(_FIRST_MATRIX))))


def _products(times: MatrixTimes, data: Measured) -> Iterable[Vector]:
    for inner, columns, _ in data.matrices.values():
        yield times.seconds(data.tokens, inner, columns, CARD)


def fit_passes(data: Measured) -> PassTimes:
    """One formula for all passes of the rows."""

    def formula(parameters: Vector) -> Vector:
        return np.concatenate(list(_passes(PassTimes(*parameters), data)))

    measured = np.concatenate([data.passes[kind][1] for kind in PASSES])
    return PassTimes(*map(float, fit_formula(formula, measured, parameters_of(_FIRST_PASS))))


def _passes(times: PassTimes, data: Measured) -> Iterable[Vector]:
    for kind in PASSES:
        size, _, count = data.passes[kind]
        yield count * times.seconds(kind, size, CARD)


def errors_on(data: Measured, matrices: MatrixTimes, passes: PassTimes) -> tuple[Errors, Errors]:
    """Of whole layers, and of single matrix products."""
    products = list(_products(matrices, data))
    layers = np.sum([*products, *_passes(passes, data)], axis=0)
    measured = np.concatenate([times for *_, times in data.matrices.values()])
    return errors_of(layers, data.seconds), errors_of(np.concatenate(products), measured)


def held_out_errors(data: Measured) -> list[HeldOut]:
    """Each model at each parallel degree, predicted from the other models at the other degrees."""
    found = []
    for model in MODELS:
        for ranks in (1, 2, 4, 8):
            seen = data.pick((data.models != model) & (data.ranks != ranks))
            unseen = data.pick((data.models == model) & (data.ranks == ranks))
            layers, products = errors_on(unseen, fit_matrices(seen), fit_passes(seen))
            found.append(HeldOut(f"{model} on {ranks}", layers, products))
    return found
