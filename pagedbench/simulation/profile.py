"""Profile: the costs of one model on one real machine, measured by `calibrate`, in a JSON file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.memory.layer_group import LayerGroup, has_windows
from pagedbench.simulation.block_sizes import BlockSizeTimes
from pagedbench.simulation.experts import Experts
from pagedbench.simulation.fitted_costs import FittedCosts, Knots, read_costs, read_knots
from pagedbench.simulation.shapes import ModelShape
from pagedbench.simulation.twin import Twin, read_twin

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.config import RunConfig
    from pagedbench.simulation.batch_costs import BatchCosts

FORMAT = "pagedbench cost profile"
SCHEMA_VERSION = 2
DIGEST_LEN = 8
KERNELS = "measured on that machine, by its kernels alone"
"""The source of a profile's `attention`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A machine's costs for one model.

    Attributes:
        block_size: tokens per block in all measurements for `fitted`.
        attention: measured times of decode attention over blocks of other sizes.
        twin: what else is known of a server that was measured from outside; None: a machine was measured.
    """

    model: str
    shape: ModelShape
    dtype: str
    kernels: str
    device_name: str
    fitted: FittedCosts
    block_size: int
    attention: BlockSizeTimes
    twin: Twin | None = None

    def costs(self, attention: str, block_size: int) -> BatchCosts:
        """The costs of systems with "paged" or "contiguous" attention."""
        if self.twin is not None:
            return self.fitted.costs(attention, f"{self.twin.source}, profile {self.digest}")
        source = (
            f"measured with {self.model} in {self.dtype} on {self.device_name} ({self.kernels} kernels), "
            f"profile {self.digest}"
        )
        if has_windows(self.shape.layer_groups):
            source += "; layers with windows take as long as those without"
        costs = self.fitted.costs(attention, source)
        if attention != "paged":
            return costs
        factor = self.attention.at(block_size) / self.attention.at(self.block_size)
        return replace(costs, context=factor * costs.context, attention=self.attention.words(block_size))

    def check(self, config: RunConfig, path: Path) -> None:
        """Refuse options that do not fit the measurements.

        Args:
            path: the profile's file, for error messages.

        Raises:
            ConfigError: one does not fit.
        """
        if config.model != self.model:
            raise ConfigError(
                f"{path} was measured with {self.model}, not {config.model}: give --model {self.model}, "
                "or calibrate again"
            )
        if config.dtype not in ("auto", self.dtype):
            raise ConfigError(
                f"{path} was measured in {self.dtype}, not {config.dtype}: leave out --dtype, or calibrate "
                "again"
            )
        if config.gpu_memory_utilization is not None:
            raise ConfigError(
                "--gpu-memory-utilization has no effect on a measured profile: give --kv-memory or "
                "--kv-slots"
            )
        if config.kv_dtype == "int8":
            raise ConfigError(f"{path} was measured without --kv-dtype int8: leave out that option")
        if config.cost_model != "auto" or config.tensor_parallel_size not in (None, 1):
            raise ConfigError(
                "--cost-model and --tensor-parallel-size have no effect on a measured profile"
            )

    @property
    def digest(self) -> str:
        """A hash of the costs, and of what is known of a server, by which profiles are compared."""
        document = self.document()
        names = ("seconds", "paged_over_contiguous", "twin")
        text = json.dumps([document[name] for name in names if name in document], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LEN]

    def document(self) -> dict[str, object]:
        """The content of the JSON file."""
        twin = {} if self.twin is None else {"twin": self.twin.document()}
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "shape": asdict(self.shape),
            "dtype": self.dtype,
            "kernels": self.kernels,
            "device_name": self.device_name,
            "block_size": self.block_size,
            "paged_over_contiguous": sorted(self.attention.factors.items()),
            "seconds": self.fitted.document(),
            **twin,
        }


def read_profile(path: Path) -> Profile:
    """The profile in a file.

    Raises:
        ConfigError: the file cannot be read, is not a profile, or is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the profile {path}: {error.strerror or error}: make one with pagedbench calibrate"
        ) from None
    except ValueError:
        raise ConfigError(
            f"{path} is damaged, or not JSON: make it again with pagedbench calibrate"
        ) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a cost profile: give a file written by pagedbench calibrate")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{path} was written by another version of pagedbench: make it again")
    try:
        return _profile(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged ({type(error).__name__}: {error}): make it again with pagedbench calibrate"
        ) from None


def _profile(document: dict[str, Any]) -> Profile:
    twin = document.get("twin")
    return Profile(
        model=str(document["model"]),
        shape=_shape(document["shape"]),
        dtype=str(document["dtype"]),
        kernels=str(document["kernels"]),
        device_name=str(document["device_name"]),
        block_size=_block_size(document["block_size"]),
        attention=BlockSizeTimes(_factors(document["paged_over_contiguous"]), KERNELS),
        fitted=read_costs(document["seconds"]),
        twin=None if twin is None else read_twin(twin),
    )


def _shape(fields: dict[str, Any]) -> ModelShape:
    groups, experts = fields.get("layer_groups", [{}]), fields.get("experts")
    parts = {
        "layer_groups": tuple(_layer_group(**group) for group in groups),
        "experts": None if experts is None else Experts(**experts),
    }
    return ModelShape(**{**fields, **parts})


def _layer_group(layers: list[int] | None = None, **tokens: Any) -> LayerGroup:
    return LayerGroup(None if layers is None else tuple(layers), **tokens)


def _factors(pairs: list[list[float]]) -> Knots:
    factors = read_knots(pairs)
    if min(factors.values()) == 0:
        raise ValueError("attention takes time at every block size")
    return factors


def _block_size(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a block size")
    return value
