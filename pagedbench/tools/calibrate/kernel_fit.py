"""Fits the times of today's kernels to a folder of tables, and measures the errors on unseen shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.expert_times import ExpertTimes
from pagedbench.simulation.kernel_times import AllReduceTimes, DecodeTimes, GemmTimes, PrefillTimes
from pagedbench.simulation.roofline import MAX_TOKENS
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_formula

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from pagedbench.simulation.cards import Card
    from pagedbench.simulation.modern_times import CardTimes

    Vector = NDArray[np.float64]
    KernelTimes = GemmTimes | DecodeTimes | PrefillTimes | AllReduceTimes | ExpertTimes

FOLDERS = {"a100-80gb": "a100_sxm", "h100": "h100_sxm"}
"""Card -> its folder in aiconfigurator's systems data, vLLM 0.14."""

ROWS, PACKS = {"a100-80gb": 64, "h100": 128}, {"a100-80gb": False, "h100": True}
"""How a card's attention kernel cuts prompts (FlashAttention 2 and 3)."""

CHOICE = "power_law_1.01"
"""The distribution of tokens over experts in the tables: some are chosen far more often than others."""

PLAIN_SIZES = (1856, 2688)
"""Sizes of those experts in the tables that have no gate: Nemotron's."""

OUTLIER = 0.03
"""Small, so that the fit minimizes medians of errors rather than means of squares."""

_FIRST_GEMM = (3e-6, 0.85, 0.78, 1.5, 0.98, 0.92, 2e-6, 1e-7)
_FIRST_DECODE = (10e-6, 0.85, 10e-9, 1.0, 1e-12, 10e-9, 10e-6, 10e-6, 1e-5, 3e-6)
_FIRST_PREFILL = (10e-6, 0.6, 1.0, 10e-9, 1.0, 0.8)
_FIRST_ALL_REDUCE = (5e-6, 200e9, 1.0, 1e-6)
_FIRST_EXPERTS = (2e-5, 0.8, 0.3, 0.5, 1.0, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Fitted:
    """One kernel of one card: its times, and the errors on a third of its table, fitted to the rest.

    Attributes:
        times: fitted to all rows.
    """

    card: str
    kernel: str
    times: KernelTimes
    held_out: Errors


def fit_kernels(folder: Path) -> list[Fitted]:
    """Fit every kernel of every card.

    Raises:
        ConfigError: a table is missing.
    """
    return [
        Fitted(card, kernel.name, kernel.fit(), _held_out(kernel))
        for card, place in FOLDERS.items()
        for kernel in _kernels(card, folder / place)
    ]


def held_out_errors(card: str, name: str, folder: Path) -> Errors:
    """One kernel of one card on the third of its shapes that its fit has not seen.

    Raises:
        ConfigError: a table is missing.
    """
    (kernel,) = (each for each in _kernels(card, folder / FOLDERS[card]) if each.name == name)
    return _held_out(kernel)


def _held_out(kernel: _Kernel) -> Errors:
    """The errors on every third shape, from the second on, predicted from the others."""
    held = kernel.groups % 3 == 1
    unseen = kernel.pick(held)
    return errors_of(kernel.seconds(kernel.pick(~held).fit(), unseen.rows), unseen.measured)


def kernel_errors(card: str, times: CardTimes, folder: Path) -> dict[str, Errors]:
    """The errors of the committed times on all rows of the tables, by kernel.

    Raises:
        ConfigError: a table is missing.
    """
    committed = (times.gemm, times.decode, times.prefill, times.reduce_graph, times.reduce_eager,
                 times.experts)  # fmt: skip
    return {
        kernel.name: errors_of(kernel.seconds(own, kernel.rows), kernel.measured)
        for kernel, own in zip(_kernels(card, folder / FOLDERS[card]), committed, strict=True)
    }


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A table, and the formula of its times.

    Attributes:
        groups: the number of each row's shape; every third shape is held out of a fit.
        start: where the search for coefficients begins.
    """

    name: str
    rows: pd.DataFrame
    groups: NDArray[np.int_]
    start: tuple[float, ...]
    times_of: Callable[..., Any]
    seconds: Callable[[Any, pd.DataFrame], Vector]

    @property
    def measured(self) -> Vector:
        """Seconds.  # [num_rows]"""
        return self.rows.latency.to_numpy(dtype=np.float64) * 1e-3

    def pick(self, chosen: NDArray[np.bool_]) -> _Kernel:
        """Some of the rows."""
        return replace(self, rows=self.rows[chosen], groups=self.groups[chosen])

    def fit(self) -> Any:
        """The times with the least errors."""
        found = fit_formula(
            lambda values: self.seconds(self.times_of(*map(float, values)), self.rows),
            self.measured,
            np.array(self.start),
            outlier=OUTLIER,
        )
        return self.times_of(*map(float, found))


_HEADS = ["num_heads", "num_key_value_heads"]
EXPERTS = ["hidden_size", "inter_size", "num_experts", "topk", "moe_tp_size"]


def _kernels(name: str, folder: Path) -> list[_Kernel]:
    """The tables of one card; only their rows in bfloat16."""
    card = CARDS[name]
    gemm = read_table(folder, "gemm_perf")
    gemm = gemm[gemm.gemm_dtype == "bfloat16"].drop_duplicates(["m", "n", "k"])
    decode, prefill = (read_table(folder, f"{kind}_attention_perf") for kind in ("generation", "context"))
    decode, prefill = (rows[rows.kv_cache_dtype == "bfloat16"] for rows in (decode, prefill))
    reduce = read_table(folder, "custom_allreduce_perf")
    experts = expert_rows(read_table(folder, "moe_perf"))
    prefill_times = partial(PrefillTimes, rows=ROWS[name], packs=PACKS[name])
    return [
        _Kernel("gemm", gemm, _shapes(gemm, ["n", "k"]), _FIRST_GEMM, GemmTimes, partial(_gemm, card)),
        _Kernel("decode attention", decode, _shapes(decode, _HEADS), _FIRST_DECODE, DecodeTimes,
                partial(_decode, card)),
        _Kernel("prefill attention", prefill, _shapes(prefill, _HEADS), _FIRST_PREFILL, prefill_times,
                partial(_prefill, card)),
        *(
            _Kernel(f"all-reduce, {mode}", rows, _shapes(rows, ["message_size"]), _FIRST_ALL_REDUCE,
                    AllReduceTimes, _all_reduce)
            for mode in ("graph", "eager")
            for rows in [reduce[reduce.backend == f"vllm_{mode}"]]
        ),
        _Kernel("experts", experts, _shapes(experts, EXPERTS), _FIRST_EXPERTS, ExpertTimes,
                partial(_experts, card)),
    ]  # fmt: skip


def _shapes(table: pd.DataFrame, columns: list[str]) -> NDArray[np.int_]:
    """Number the shapes in the order of their sizes.  # [num_rows]"""
    return np.asarray(table.groupby(columns).ngroup().to_numpy(), dtype=np.int_)


def read_table(folder: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    path = folder / f"{name}.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = "give the folder of aiconfigurator's tables of vLLM 0.14"
        raise ConfigError(f"cannot read {path}: {reason}: {hint}") from None
    return table[table.latency > 0]


def expert_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Gated bfloat16 experts, split over ranks, with the distribution of tokens that both cards have."""
    is_gated = ~table.inter_size.isin(PLAIN_SIZES)
    is_whole = (table.moe_ep_size == 1) & (table.num_tokens <= MAX_TOKENS)
    rows = table[is_gated & is_whole & (table.moe_dtype == "bfloat16") & (table.distribution == CHOICE)]
    return rows.drop_duplicates([*EXPERTS, "num_tokens"])


def _gemm(card: Card, times: GemmTimes, rows: pd.DataFrame) -> Vector:
    rows_, inner, columns = (rows[name].to_numpy(dtype=np.float64) for name in ("m", "k", "n"))
    return times.seconds(rows_, inner, columns, card)


def _decode(card: Card, times: DecodeTimes, rows: pd.DataFrame) -> Vector:
    columns = (rows[name].tolist() for name in ("batch_size", *_HEADS, "head_dim", "isl", "step"))
    return np.array([
        times.seconds(batch, batch * (length + step), heads, kv_heads, head_dim, card)
        for batch, heads, kv_heads, head_dim, length, step in zip(*columns, strict=True)
    ])  # fmt: skip


def _prefill(card: Card, times: PrefillTimes, rows: pd.DataFrame) -> Vector:
    columns = (rows[name].tolist() for name in ("batch_size", *_HEADS, "head_dim", "isl"))
    return np.array([
        times.seconds([(0, length)], heads, kv_heads, head_dim, card, copies=batch)
        for batch, heads, kv_heads, head_dim, length in zip(*columns, strict=True)
    ])  # fmt: skip


def _all_reduce(times: AllReduceTimes, rows: pd.DataFrame) -> Vector:
    size, ranks = (rows[name].to_numpy(dtype=np.float64) for name in ("message_size", "num_gpus"))
    return times.seconds(size, ranks)


def _experts(card: Card, times: ExpertTimes, rows: pd.DataFrame) -> Vector:
    hidden, size, number, per_token, ranks, tokens = (
        rows[name].to_numpy(dtype=np.float64) for name in (*EXPERTS, "num_tokens")
    )
    return times.seconds(tokens, hidden, size / ranks, number, per_token, card)
