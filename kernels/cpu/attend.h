// The inner step of decode attention, and the one thing that an instruction set must provide.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace pagedbench {

/// Tokens folded into the softmax at once. Tiles begin at multiples of this position whatever the
/// placement, so that paged and contiguous attention add in the same order and agree bit for bit.
constexpr int TILE_LEN = 64;

/// Where the keys and values of up to TILE_LEN tokens in a row of positions lie; one pointer a token,
/// to the first of the KV heads that are worked on.
template <typename T>
struct Tile {
    int num_tokens;
    const T* keys[TILE_LEN];
    const T* values[TILE_LEN];
};

/// The heads that are worked on together. Query head h reads KV head h / group_size.
struct Heads {
    int num_heads;
    int group_size;
    int head_dim;
    float scale;
};

/// The softmax so far of every query head: sum over tokens of exp(score - maximum), and the same
/// weights times the values.
struct Softmax {
    float* maximum;      // [num_heads]
    float* sum;          // [num_heads]
    float* accumulated;  // [num_heads, head_dim]
    float* weights;      // [num_heads, TILE_LEN], scratch
};

/// Folds a tile into the softmax. `query`: [num_heads, head_dim].
template <typename T>
using AttendTile = void (*)(const Heads& heads, const float* query, const Tile<T>& tile, Softmax softmax);

struct InstructionSet {
    const char* name;
    AttendTile<float> attend_float32;
    AttendTile<bfloat16> attend_bfloat16;
};

extern const InstructionSet portable;

/// The best one that this processor has; chosen once.
const InstructionSet& instruction_set();

template <typename T>
AttendTile<T> attend_tile();
template <>
inline AttendTile<float> attend_tile<float>() { return instruction_set().attend_float32; }
template <>
inline AttendTile<bfloat16> attend_tile<bfloat16>() { return instruction_set().attend_bfloat16; }

}  // namespace pagedbench
