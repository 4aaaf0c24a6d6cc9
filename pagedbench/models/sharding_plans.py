"""Sharding plans: how the ranks of a run divide the modules of each architecture (arXiv:1909.08053)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from pagedbench.simulation.config_shapes import ModelError
from pagedbench.simulation.shapes import ModelShape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.models.loader import Source


class Split(Enum):
    """How a weight, [out_features, in_features], is divided. Values: the names in transformers' plans."""

    COLUMNS = "colwise"  # by out_features: each rank computes some columns of the product
    ROWS = "rowwise"  # by in_features: the products of all ranks are summed
    WHOLE = "replicated_with_grad_allreduce"  # not divided: every rank has all of it
    VOCABULARY = "embedding_rowwise"  # by tokens
    PACKED_COLUMNS = "packed_colwise"  # of experts, [number, 2 x out_features, in_features]: of both halves
    FUSED_COLUMNS = "fused"  # queries, keys and values stacked: by heads, of all three
    GATHERED = "colwise_gather_output"  # by out_features, and every rank gets the whole product
    SPLIT_INPUT = "rowwise_split_input"  # by in_features; every rank may get the whole input
    SUMMED = "moe_tp_experts"  # not divided: the module's result is summed over ranks


SUMS = (Split.ROWS, Split.SPLIT_INPUT)
"""Splits after which the products of all ranks are summed."""

Count: TypeAlias = Callable[[ModelShape], int]


@dataclass(frozen=True, slots=True)
class ShardingPlan:
    """How the modules of an architecture are divided.

    Attributes:
        splits: by patterns of the names of modules, or of single parameters; all others are whole.
        transposed: patterns of parameters that are stored as [in_features, out_features].
        counts: attributes with the numbers of heads by which attention modules split their products.
    """

    splits: Mapping[str, Split]
    transposed: tuple[str, ...] = ()
    counts: Mapping[str, Count] = field(default_factory=dict)

    def split_of(self, module: str) -> Split:
        """How the module of this name is divided."""
        return self._found(module) or Split.WHOLE

    def split_of_parameter(self, name: str) -> Split:
        """How a parameter is divided: by its own name if the plan has it, else as its module."""
        return self._found(name) or self.split_of(name.rpartition(".")[0])

    def is_transposed(self, name: str) -> bool:
        """Is a parameter stored as [in_features, out_features]?"""
        return any(fnmatchcase(name, pattern) for pattern in self.transposed)

    def _found(self, name: str) -> Split | None:
        found = (split for pattern, split in self.splits.items() if fnmatchcase(name, pattern))
        return next(found, None)


def _splits(**patterns: str) -> dict[str, Split]:
    """Pattern -> split, from patterns separated by spaces for every split's name."""
    return {pattern: Split[split] for split, names in patterns.items() for pattern in names.split()}


def _width_of_queries(shape: ModelShape) -> int:
    return shape.num_heads * shape.head_dim


def _num_heads(shape: ModelShape) -> int:
    return shape.num_heads


def _num_kv_heads(shape: ModelShape) -> int:
    return shape.num_kv_heads


LLAMA = ShardingPlan(
    _splits(
        COLUMNS="*.q_proj *.k_proj *.v_proj *.gate_proj *.up_proj",
        ROWS="*.o_proj *.down_proj",
        VOCABULARY="model.embed_tokens lm_head",
    )
)
ATTENTION = _splits(
    COLUMNS="*.self_attn.q_proj *.self_attn.k_proj *.self_attn.v_proj", ROWS="*.self_attn.o_proj"
)
OPT = ShardingPlan(
    _splits(
        COLUMNS="*.q_proj *.k_proj *.v_proj *.fc1",
        ROWS="*.out_proj *.fc2",
        VOCABULARY="model.decoder.embed_tokens lm_head",
    ),
    counts={"num_heads": _num_heads},
)
GPT2_SPLITS = _splits(
    FUSED_COLUMNS="*.c_attn", COLUMNS="*.c_fc", ROWS="*.c_proj", VOCABULARY="*.wte lm_head"
)
GPT_NEOX = ShardingPlan(  # rows of queries, keys and values alternate head by head: heads are columns
    _splits(
        COLUMNS="*.query_key_value *.dense_h_to_4h",
        ROWS="*.dense *.dense_4h_to_h",
        VOCABULARY="*.embed_in lm_head",
    )
)
GPT_OSS = ShardingPlan(  # columns of gate and gated alternate: the columns of a rank are pairs
    _splits(
        COLUMNS="*.q_proj *.k_proj *.v_proj *.sinks *.experts.gate_up_proj *.experts.gate_up_proj_bias",
        ROWS="*.o_proj *.experts.down_proj *.experts.down_proj_bias",
        SUMMED="*.experts",
        VOCABULARY="model.embed_tokens lm_head",
    ),
    transposed=("*.experts.*",),
)

OWN_PLANS = {
    "opt": OPT,
    "llama": LLAMA,
    "gpt2": ShardingPlan(GPT2_SPLITS, ("*.c_*.weight",), {"split_size": _width_of_queries}),
    "gpt_bigcode": ShardingPlan(GPT2_SPLITS, counts={"embed_dim": _width_of_queries}),
    "gpt_neox": GPT_NEOX,
    "gpt_oss": GPT_OSS,
    "hunyuan_v1_dense": LLAMA,
    "stablelm": ShardingPlan(
        LLAMA.splits, counts={"num_heads": _num_heads, "num_key_value_heads": _num_kv_heads}
    ),
}
"""Plans by model_type: for our own layers, and where transformers has no plan or an incomplete one."""


def plan_of(source: Source) -> ShardingPlan:
    """How the modules of a model are divided: by a plan of ours where there is one, else by transformers'.

    Raises:
        ModelError: there is no plan for the architecture, or it has a split that is not supported here.
    """
    config, name = source.config, source.shape.name
    if config is None:
        return OWN_PLANS[source.shape.family]
    if getattr(config, "qk_layernorm", False) and config.model_type == "stablelm":
        raise _refusal(name, "each of its heads has its own norm")
    if config.model_type == "gpt_bigcode" and not config.multi_query:
        splits = {**GPT2_SPLITS, "*.c_attn": Split.COLUMNS}  # as those of GPT-NeoX, head by head
        return ShardingPlan(splits)
    return OWN_PLANS.get(config.model_type) or _plan_of_transformers(config, name)


def _plan_of_transformers(config: Any, name: str) -> ShardingPlan:
    plan = getattr(config, "base_model_tp_plan", None) or {}
    known = {split.value: split for split in Split if split is not Split.FUSED_COLUMNS}
    others = sorted(set(plan.values()) - set(known))
    if others or not {split.value for split in SUMS} & set(plan.values()):
        reason = f"divides modules as {others[0]}" if others else "divides no products"
        raise _refusal(name, f"the tensor-parallel plan of transformers for {config.model_type} {reason}")
    splits: dict[str, Split] = {f"*.{pattern}": known[style] for pattern, style in plan.items()}
    if not any(".self_attn." in pattern or ".attn" in pattern for pattern in splits):
        splits |= ATTENTION  # the plan divides experts alone
    return ShardingPlan({**splits, "*embed_tokens": Split.VOCABULARY, "lm_head": Split.VOCABULARY})


def _refusal(name: str, reason: str) -> ModelError:
    return ModelError(
        f"{name} cannot be shared by ranks: {reason}; choose another model, or --tensor-parallel-size 1"
    )
