// The kernels' arguments: views of tensors that Python owns, already checked by bindings.cpp.
#pragma once

#include <cstdint>

namespace pagedbench {

/// Storage only; arithmetic is in float (storage.h).
struct bfloat16 {
    std::uint16_t bits;
};

/// [num_rows, num_heads, head_dim]. A row is contiguous; rows begin `stride` elements apart.
template <typename T>
struct Rows {
    T* data;
    std::int64_t num_rows;
    std::int64_t num_heads;
    std::int64_t head_dim;
    std::int64_t stride;

    T* row(std::int64_t index) const { return data + index * stride; }
};

/// Attention of one new token a sequence over its cached tokens.
template <typename T>
struct Decode {
    Rows<T> out;                        // [num_sequences, num_heads, head_dim]
    Rows<const T> query;                // [num_sequences, num_heads, head_dim]
    Rows<const T> keys;                 // [num_slots, num_kv_heads, head_dim]
    Rows<const T> values;               // [num_slots, num_kv_heads, head_dim]
    const std::int32_t* context_lens;   // [num_sequences], the new token included
    float scale;
    int num_threads;
};

/// Puts token i's key and value into slot `slots[i]`; slot -1 is skipped.
template <typename T>
void write_kv(Rows<const T> key, Rows<const T> value, Rows<T> key_cache, Rows<T> value_cache,
              const std::int64_t* slots, int num_threads);

/// Position p of sequence i lies in slot block_tables[i, p / block_size] * block_size + p % block_size.
template <typename T>
void paged_decode(const Decode<T>& decode, const std::int32_t* block_tables, std::int64_t max_blocks,
                  std::int64_t block_size);

/// Position p of sequence i lies in slot extent_starts[i] + p.
template <typename T>
void contiguous_decode(const Decode<T>& decode, const std::int64_t* extent_starts);

}  // namespace pagedbench
