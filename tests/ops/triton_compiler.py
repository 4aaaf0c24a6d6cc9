"""Compiles the Triton kernels for a GPU that need not be there, as the launches of a small batch ask for.

Run as a program: it prints one line a compiled kernel, its name and the bytes of shared memory it takes. It
fails if batches of other sizes need other kernels: these would be compiled in the middle of a run.
"""

from __future__ import annotations

from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

from pagedbench.kernels.triton.decode import decode
from pagedbench.kernels.triton.silu_gate import silu_gate
from pagedbench.ops import triton as ops
from pagedbench.ops.addresses import BlockTables, Extents

TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
ALIGNED = [["tt.divisibility", 16]]

compiled: dict[str, str] = {}
"""Names of the kernels compiled so far, by a hash of all that decides what the compiler is given."""


def compile_instead(
    kernel: JITFunction[Any], target: GPUTarget, args: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    """Stands in for a launch: specializes as Triton does, on ones, multiples of 16 and constants."""
    del keywords["grid"], keywords["warmup"]
    values = dict(zip(kernel.arg_names, args, strict=False)) | keywords
    options = {name: values.pop(name) for name in keywords if name not in kernel.arg_names}
    signature, constants, alignments = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value, is_free = values[parameter.name], parameter.do_not_specialize
        if (
            parameter.is_constexpr
            or value is None
            or (isinstance(value, int) and value == 1 and not is_free)
        ):
            signature[parameter.name], constants[(i,)] = "constexpr", value
            continue
        is_integer = isinstance(value, int)
        signature[parameter.name] = (
            TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32" if is_integer else "fp32"
        )
        place = value.data_ptr() if isinstance(value, torch.Tensor) else value if is_integer else 1
        if place % 16 == 0 and not (is_free or parameter.do_not_specialize_on_alignment):
            alignments[(i,)] = ALIGNED
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=alignments)
    key = f"{target} {source.hash()} {sorted(options.items())}"
    if key not in compiled:
        compiled[key] = kernel.__name__
        print(kernel.__name__, compile(source, target=target, options=options).metadata.shared, flush=True)


class Launches:
    """Those of attention with heads of one size and type."""

    def __init__(
        self,
        num_sequences: int,
        num_kv_heads: int,
        group_size: int,
        head_dim: int,
        dtype: torch.dtype,
        first: int = 0,
        num_blocks: int = 64,
    ) -> None:
        """`first`: sequences of the same iteration that are not these."""
        num_heads = num_kv_heads * group_size
        self.one_a_sequence = torch.zeros(num_sequences, num_heads, head_dim, dtype=dtype)
        self.prompts = torch.zeros(64, num_heads, head_dim, dtype=dtype)
        self.caches = (torch.zeros(32, num_kv_heads, head_dim, dtype=dtype),) * 2
        self.tables = torch.zeros(first + num_sequences, num_blocks, dtype=torch.int32)[first:]
        self.lens = torch.zeros(first + num_sequences, dtype=torch.int32)[first:]
        self.starts = torch.zeros(num_sequences + 1, dtype=torch.int32)
        self.sink_logits = torch.zeros(num_heads)

    def decode_in_pieces(self, num_splits: int = 8) -> None:
        where = (*self.caches, BlockTables(self.tables, 16), self.lens)
        decode(self.one_a_sequence, *where, 0.1, None, 0, None, None, num_splits)

    def decode_extents(self) -> None:
        where = (*self.caches, Extents(self.lens.long()), self.lens)
        decode(self.one_a_sequence, *where, 0.1, None, 0, None, None, 1)

    def decode_windows(self) -> None:
        """Over late tables."""
        where = (*self.caches, BlockTables(self.tables, 16, self.lens), self.lens)
        decode(self.one_a_sequence, *where, 0.1, 1000, 4, None, None, 2)

    def decode_windows_of_one(self) -> None:
        where = (*self.caches, BlockTables(self.tables, 16), self.lens)
        decode(self.one_a_sequence, *where, 0.1, 1, 0, None, None, 1)

    def decode_caps_and_sinks(self) -> None:
        where = (*self.caches, BlockTables(self.tables, 16), self.lens)
        decode(self.one_a_sequence, *where, 0.1, None, 0, 30.0, self.sink_logits, 8)

    def prefill(self) -> None:
        where = (*self.caches, BlockTables(self.tables, 16), self.starts, self.lens)
        ops.attend_prefill(self.prompts, *where, 0.1)

    def prefill_windows(self) -> None:
        """Over late tables."""
        where = (*self.caches, BlockTables(self.tables, 16, self.lens), self.starts, self.lens)
        ops.attend_prefill(self.prompts, *where, 0.1, 1000, 4)

    def prefill_caps_and_sinks(self) -> None:
        where = (*self.caches, BlockTables(self.tables, 16), self.starts, self.lens)
        ops.attend_prefill(self.prompts, *where, 0.1, None, 0, 30.0, self.sink_logits)


def launch_the_rest(dtype: torch.dtype) -> None:
    hidden, weight = torch.zeros(8, 5120, dtype=dtype), torch.zeros(5120, dtype=dtype)
    ops.layer_norm(hidden, hidden, weight, weight, 1e-5)
    ops.rms_norm(hidden, None, weight, 1e-5)
    silu_gate(hidden)
    heads, slots = torch.zeros(8, 24, 80, dtype=dtype), torch.zeros(8, dtype=torch.int64)
    cache, angles = torch.zeros(32, 4, 80, dtype=dtype), torch.zeros(8, 40)
    ops.write_kv(heads[:, 16:20], heads[:, 20:], cache, cache, slots)
    ops.rotate_and_write_kv(
        heads[:, :16], heads[:, 16:20], heads[:, 20:], cache, cache, slots, angles, angles
    )
    ops.copy_slots(cache[None], cache[None], slots, slots + 8)


def launch_with_8_bits(num_kv_heads: int, group_size: int, head_dim: int, dtype: torch.dtype) -> None:
    """Everything that writes or reads a cache of 8 bits."""
    num_heads = num_kv_heads * group_size
    heads = torch.zeros(8, num_heads + 2 * num_kv_heads, head_dim, dtype=dtype)
    query, key, value = heads.split((num_heads, num_kv_heads, num_kv_heads), dim=1)
    cache, angles = (
        torch.zeros(32, num_kv_heads, head_dim + 4, dtype=torch.int8),
        torch.zeros(8, head_dim // 2),
    )
    slots, lens = torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.int32)
    ops.write_kv(key, value, cache, cache, slots)
    ops.rotate_and_write_kv(query, key, value, cache, cache, slots, angles, angles)
    tables = BlockTables(torch.zeros(8, 64, dtype=torch.int32), 16)
    query = query.contiguous()
    decode(query, cache, cache, tables, lens, 0.1, None, 0, None, None, 8)
    starts = torch.zeros(9, dtype=torch.int32)
    ops.attend_prefill(query, cache, cache, tables, starts, lens, 0.1, 1000, 4)


def compile_for(capability: int) -> None:
    JITFunction.run = lambda kernel, *args, **keywords: compile_instead(
        kernel, GPUTarget("cuda", capability, 32), args, keywords
    )


if __name__ == "__main__":
    # Each kind of launch once, on one of the architectures: a kernel takes a second or two to compile.
    compile_for(90)
    wide = Launches(8, 8, 1, 128, torch.float16)
    wide.decode_in_pieces()
    wide.decode_caps_and_sinks()
    wide.prefill()
    wide.prefill_caps_and_sinks()
    num_compiled = len(compiled)
    for sizes in ((7, 8, 1, 128, torch.float16, 3, 65), (1, 8, 1, 128, torch.float16, 8, 1)):
        other = Launches(*sizes)
        other.decode_in_pieces(num_splits=2)
        other.prefill()
    assert len(compiled) == num_compiled, f"compiled anew: {list(compiled.values())[num_compiled:]}"
    launch_the_rest(torch.bfloat16)
    compile_for(80)
    grouped = Launches(1, 2, 4, 80, torch.bfloat16)
    grouped.decode_extents()
    grouped.decode_windows()
    grouped.decode_windows_of_one()
    grouped.prefill_windows()
    Launches(8, 4, 1, 64, torch.float32).decode_in_pieces()
    launch_with_8_bits(8, 4, 128, torch.bfloat16)
