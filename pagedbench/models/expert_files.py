"""Names in files: transformers keeps a layer's experts in one tensor, checkpoints have one per expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.models.weights import Cut, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.models.weights import CheckpointWeights

GATE_UP, DOWN = ".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"
ROUTER = ".mlp.gate.weight"
HEAD, HEAD_OF_GPT_NEOX = "lm_head.weight", "embed_out.weight"

NAMES = {
    ".mlp.experts.{}.gate_proj.weight": (
        ".mlp.experts.{}.up_proj.weight",
        ".mlp.experts.{}.down_proj.weight",
    ),
    ".block_sparse_moe.experts.{}.w1.weight": (
        ".block_sparse_moe.experts.{}.w3.weight",
        ".block_sparse_moe.experts.{}.w2.weight",
    ),
}
"""What checkpoints call an expert's gate -> what they call its up and down projections."""


class ExpertFiles(Weights):
    """The tensors of a checkpoint under the names that transformers' modules have."""

    def __init__(self, files: CheckpointWeights) -> None:
        super().__init__(files.dtype, files.device)
        self.description = files.description
        self._files = files

    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        """See `Weights.read`. Of a tensor of all experts only a part of the rows or columns is read."""
        if self._files.has(name):
            self._files.read(name, out, cut)
        elif name.endswith(GATE_UP) and cut is not None:
            self._read_gate_or_up(name.removesuffix(GATE_UP), out, cut)
        elif name.endswith(DOWN) and cut is not None:
            _, _, down = self._names(name.removesuffix(DOWN))
            for number, part in enumerate(out):  # [hidden_size, columns of this rank]
                self._files.read(down.format(number), part, Cut(1, cut.start, cut.full))
        elif name == HEAD and self._files.has(HEAD_OF_GPT_NEOX):
            self._files.read(HEAD_OF_GPT_NEOX, out, cut)
        elif name.endswith(ROUTER):
            self._files.read(f"{name.removesuffix(ROUTER)}.block_sparse_moe.gate.weight", out, cut)
        else:
            self._files.read(name, out, cut)  # raises an error that says what is missing

    def _read_gate_or_up(self, layer: str, out: Tensor, cut: Cut) -> None:
        """Rows of one half of the stacked tensor: the gate's come first."""
        gate, up, _ = self._names(layer)
        size = cut.full // 2
        source = gate if cut.start < size else up
        for number, part in enumerate(out):  # [rows of this rank, hidden_size]
            self._files.read(source.format(number), part, Cut(0, cut.start % size, size))

    def _names(self, layer: str) -> tuple[str, str, str]:
        """Gate, up and down of the layer's experts, with a placeholder for the expert's number."""
        found = [gate for gate in NAMES if self._files.has(f"{layer}{gate.format(0)}")]
        gate = found[0] if found else next(iter(NAMES))
        up, down = NAMES[gate]
        return f"{layer}{gate}", f"{layer}{up}", f"{layer}{down}"
