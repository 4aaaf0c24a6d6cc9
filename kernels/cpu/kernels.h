// What the kernels are asked to do: views of memory that Python owns, already checked by the bindings.
#pragma once

#include <cstdint>

namespace pagedbench {

/// Storage only; sums are in float (simd.h).
struct bfloat16 {
    std::uint16_t bits;
};

/// Elements that a cached head has behind its head_dim values: of int8, the bytes of its scale (quantized.h).
template <typename C>
constexpr std::int64_t SCALE_LEN = 0;
template <>
constexpr std::int64_t SCALE_LEN<std::int8_t> = sizeof(float);

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

/// Positions `start` to `start + length - 1` of a sequence, which none of some queries sees. The tokens that are
/// left are numbered without it: an attention over them is one over a shorter context.
struct Gap {
    std::int64_t start;
    std::int64_t length;
};

/// Tokens first to end - 1 of a tile, which a window hides from a query.
struct Hidden {
    std::int64_t first;
    std::int64_t end;

    bool covers(std::int64_t count) const { return first <= 0 && end >= count; }
};

/// What a query sees: the last `size` tokens, itself included, and the first `num_sinks` ones of its sequence.
struct Window {
    std::int64_t size;  // at least 1; INT32_MAX, longer than any context, leaves no gap
    std::int64_t num_sinks;

    /// What neither a query at `position` nor any behind it sees.
    Gap gap(std::int64_t position) const {
        const std::int64_t length = position + 1 - size - num_sinks;
        return {num_sinks, length > 0 ? length : 0};
    }

    /// Of a tile that begins at `tile_start`; both positions count with the gap, or both without.
    Hidden hidden(std::int64_t position, std::int64_t tile_start) const {
        return {num_sinks - tile_start, position + 1 - size - tile_start};
    }
};

/// What becomes of a query's products with keys before the softmax.
struct Scores {
    float scale;
    float softcap;             // above 0: a scaled score s becomes softcap * tanh(s / softcap); 0: it stays
    const float* sink_logits;  // [num_heads], one more score for each head, without a value; or null
};

/// Where the tokens of some sequences lie: in blocks, or in one extent each.
struct Placement {
    const std::int32_t* block_tables;     // [num_sequences, max_blocks], or null
    std::int64_t max_blocks;
    std::int64_t block_size;
    const std::int32_t* first_positions;  // [num_sequences], of tables that begin late, or null
    std::int64_t num_sink_blocks;         // they keep their columns in such tables
    const std::int64_t* extent_starts;    // [num_sequences], where there are no block tables

    /// Slots of tokens start, start + 1, ..., numbered without the gap.
    void slots(std::int64_t sequence, std::int64_t start, int num_tokens, Gap gap, std::int64_t* slots) const {
        if (gap.length == 0) return find(sequence, start, num_tokens, 0, slots);
        const std::int64_t before = gap.start - start;
        const int head = before <= 0 ? 0 : before < num_tokens ? static_cast<int>(before) : num_tokens;
        find(sequence, start, head, 0, slots);
        find(sequence, start + head + gap.length, num_tokens - head, missing_columns(sequence), slots + head);
    }

    /// Columns that a table lacks between the sinks' blocks and the others: their positions lie in every query's gap.
    std::int64_t missing_columns(std::int64_t sequence) const {
        if (!first_positions) return 0;
        const std::int64_t missing = first_positions[sequence] / block_size - num_sink_blocks;
        return missing > 0 ? missing : 0;
    }

  private:
    /// Position p of sequence i lies in slot block_tables[i, p / block_size - missing] * block_size +
    /// p % block_size, or extent_starts[i] + p.
    void find(std::int64_t sequence, std::int64_t start, int num_tokens, std::int64_t missing,
              std::int64_t* slots) const {
        if (!block_tables) {
            for (int i = 0; i < num_tokens; ++i) slots[i] = extent_starts[sequence] + start + i;
            return;
        }
        const std::int32_t* table = block_tables + sequence * max_blocks;
        std::int64_t block = start / block_size - missing;
        std::int64_t offset = start % block_size;
        for (int i = 0; i < num_tokens; ++block, offset = 0) {
            const std::int64_t base = table[block] * block_size;
            for (; offset < block_size && i < num_tokens; ++offset, ++i) slots[i] = base + offset;
        }
    }
};

/// Attention of one new token a sequence over those of its cached tokens that it sees. C is the caches' type.
template <typename T, typename C>
struct Decode {
    Rows<T> out;                       // [num_sequences, num_heads, head_dim]
    Rows<const T> query;               // [num_sequences, num_heads, head_dim]
    Rows<const C> keys;                // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    Rows<const C> values;              // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    Placement placement;
    const std::int32_t* context_lens;  // [num_sequences], the new token included
    Window window;
    Scores scores;
    int num_threads;
};

/// Causal attention of the newest tokens of some sequences over those of their cached tokens that they see.
template <typename T, typename C>
struct Prefill {
    Rows<T> out;                       // [num_tokens, num_heads, head_dim]
    Rows<const T> query;               // [num_tokens, num_heads, head_dim]
    Rows<const C> keys;                // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    Rows<const C> values;              // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    Placement placement;
    std::int64_t num_sequences;
    const std::int32_t* query_starts;  // [num_sequences], the first row of query
    const std::int32_t* query_ends;    // [num_sequences], the row behind the last
    const std::int32_t* context_lens;  // [num_sequences], the new tokens included
    Window window;
    Scores scores;
    int num_threads;
};

/// New keys and values, and where they go; slot -1 is skipped.
template <typename T, typename C>
struct Write {
    Rows<T> key;                 // [num_tokens, num_kv_heads, head_dim]
    Rows<const T> value;         // [num_tokens, num_kv_heads, head_dim]
    Rows<C> key_cache;           // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    Rows<C> value_cache;         // [num_slots, num_kv_heads, head_dim + SCALE_LEN]
    const std::int64_t* slots;   // [num_tokens]
    int num_threads;
};

/// Angles of the rotary embedding, and the queries that turn along with the keys.
template <typename T>
struct Rotation {
    Rows<T> query;        // [num_tokens, num_heads, head_dim]
    const float* cosine;  // [num_tokens, head_dim / 2]
    const float* sine;    // [num_tokens, head_dim / 2]
};

enum class Activation { none, relu, gelu, gelu_tanh, silu_gated };

/// A weight in panels (linear.h), made by `pack`.
template <typename T>
struct PackedWeight {
    T* panels;
    float* bias;                // [num_panels * panel width], zero where there is none
    std::int64_t in_features;
    std::int64_t out_features;  // of the weight: twice those of the answer if it is gated
    Activation activation;
};

/// A weight in 8 bits (screen.h).
struct Screen {
    PackedWeight<std::int8_t> weight;
    void* columns;  // what is known of each column
};

/// Rows may lie apart; a row is contiguous.
template <typename T>
struct Matrix {
    T* data;
    std::int64_t num_rows;
    std::int64_t num_columns;
    std::int64_t stride;

    T* row(std::int64_t index) const { return data + index * stride; }
};

/// hidden += delta (unless null), out = norm(hidden) * weight + bias (where there are any).
template <typename T>
struct Norm {
    Matrix<T> out;
    Matrix<T> hidden;
    const Matrix<const T>* delta;
    const T* weight;
    const T* bias;
    float epsilon;
    bool is_centred;  // layer norm; else RMS norm
    int num_threads;
};

/// The kernels that read and write caches of the type C.
template <typename T, typename C>
struct CacheKernels {
    void (*decode)(const Decode<T, C>&);
    void (*prefill)(const Prefill<T, C>&);
    void (*write_kv)(const Write<T, C>&);
    void (*rotate_and_write_kv)(const Write<T, C>&, const Rotation<T>&);
};

/// The kernels of a weight in 8 bits. Without the instructions its size is 0, and the others are null.
template <typename T>
struct ScreenKernels {
    std::int64_t (*size)(const PackedWeight<T>&);  // bytes of its panels; 0: it would not help
    std::int64_t column_bytes;                     // bytes of what is known of a column
    bool (*make)(const PackedWeight<T>&, const Screen&, int num_threads);
    bool (*argmax)(const PackedWeight<T>&, const Screen&, Matrix<const T> x, std::int64_t* out, int num_threads);
};

/// The kernels of one element type, compiled for one instruction set.
template <typename T>
struct Kernels {
    CacheKernels<T, T> same_type;
    CacheKernels<T, std::int8_t> int8;
    void (*norm)(const Norm<T>&);
    std::int64_t (*packed_size)(const PackedWeight<T>&);  // elements of `panels`
    std::int64_t (*padded_columns)(const PackedWeight<T>&);  // elements of `bias`
    void (*pack)(const PackedWeight<T>&, Matrix<const T> weight, const T* bias, int num_threads);
    /// `next`: the weight that is multiplied after this one, or null; its beginning is fetched.
    void (*linear)(const PackedWeight<T>&, const PackedWeight<T>* next, Matrix<const T> x, Matrix<T> out,
                   int num_threads);
    void (*argmax)(const PackedWeight<T>&, Matrix<const T> x, std::int64_t* out, int num_threads);
    ScreenKernels<T> screen;
};

struct InstructionSet {
    const char* name;
    Kernels<float> float32;
    Kernels<bfloat16> bfloat16_;
};

/// The best one that this processor has; chosen once.
const InstructionSet& instruction_set();

template <typename T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels() { return instruction_set().float32; }
template <>
inline const Kernels<bfloat16>& kernels() { return instruction_set().bfloat16_; }

template <typename T>
const CacheKernels<T, T>& cache_kernels(const T*) { return kernels<T>().same_type; }
template <typename T>
const CacheKernels<T, std::int8_t>& cache_kernels(const std::int8_t*) { return kernels<T>().int8; }

}  // namespace pagedbench
