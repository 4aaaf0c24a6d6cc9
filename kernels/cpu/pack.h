// Packs cached keys and values of some tokens into the panels that the micro-kernel multiplies by.
#pragma once

#include "micro_kernel.h"
#include "quantized.h"

namespace pagedbench::PAGEDBENCH_ISA {

#if defined(__AVX512F__)
constexpr int WIDE = 4, QUERY_ROWS = 6;  // vectors of a panel, rows: 24 of 32 registers are sums
#else
constexpr int WIDE = 2, QUERY_ROWS = 6;  // 12 of 16
#endif
constexpr int WIDE_COLUMNS = WIDE * LANES;

/// Tokens of keys and values that are packed at once.
constexpr int PREFILL_TILE = 256;

static_assert(PREFILL_TILE % WIDE_COLUMNS == 0);

inline std::int64_t rounded_up(std::int64_t number, std::int64_t multiple) {
    return (number + multiple - 1) / multiple * multiple;
}

/// Token i's key becomes column i: panels of WIDE_COLUMNS tokens, units of depth along the head. Units are
/// copied unchanged; the rest of a head after its last whole unit is padded, and so is the last panel.
template <typename T>
void pack_keys(const T* const* keys, int num_tokens, int head_dim, T* packed) {
    constexpr int ELEMENTS = Unit<T>::ELEMENTS;
    const std::int64_t panel = (head_dim + ELEMENTS - 1) / ELEMENTS * WIDE_COLUMNS * ELEMENTS;
    for (int token = 0; token < rounded_up(num_tokens, WIDE_COLUMNS); token += LANES) {
        const T* rows[LANES];
        for (int i = 0; i < LANES; ++i) rows[i] = token + i < num_tokens ? keys[token + i] : nullptr;
        T* target = packed + token / WIDE_COLUMNS * panel + token % WIDE_COLUMNS * ELEMENTS;
        pack_columns(rows, head_dim, target, WIDE_COLUMNS);
    }
}

/// One unit of depth of values: one token's, or two tokens' in pairs. A missing second one is zero.
inline void pack_unit(const float* const* values, int, int first, int count, float* target) {
    std::memcpy(target, values[0] + first, count * sizeof(float));
}

inline void pack_unit(const bfloat16* const* values, int num_tokens, int first, int count, bfloat16* target) {
    auto* pairs = reinterpret_cast<std::uint32_t*>(target);
    const bfloat16* even = values[0] + first;
    const bfloat16* odd = num_tokens > 1 ? values[1] + first : nullptr;
    for (int i = 0; i < count; ++i) {
        pairs[i] = even[i].bits | (odd ? static_cast<std::uint32_t>(odd[i].bits) << 16 : 0u);
    }
}

/// Token i's value becomes row i: panels of WIDE_COLUMNS elements of the head, units of depth along tokens.
template <typename T>
void pack_values(const T* const* values, int num_tokens, int head_dim, T* packed) {
    constexpr int ELEMENTS = Unit<T>::ELEMENTS;
    for (int first = 0; first < head_dim; first += WIDE_COLUMNS) {
        const int count = head_dim - first < WIDE_COLUMNS ? head_dim - first : WIDE_COLUMNS;
        for (int token = 0; token < num_tokens; token += ELEMENTS, packed += WIDE_COLUMNS * ELEMENTS) {
            if (count < WIDE_COLUMNS) std::memset(packed, 0, WIDE_COLUMNS * ELEMENTS * sizeof(T));
            pack_unit(values + token, num_tokens - token, first, count, packed);
        }
    }
}

/// Rows in a type that can be packed: those of the cache itself.
template <typename T>
inline const T* const* widened(const T* const* cached, int, int, const T**, T*, float*) { return cached; }

/// Rows of a cache of 8 bits, widened, which is exact in every type. Scales are padded with zeros.
template <typename T>
inline const T* const* widened(const std::int8_t* const* cached, int count, int head_dim, const T** rows, T* wide,
                               float* scales) {
    for (int i = 0; i < count; ++i, wide += head_dim) {
        widen(cached[i], head_dim, wide);
        scales[i] = scale_behind(cached[i], head_dim);
        rows[i] = wide;
    }
    for (int i = count; i % WIDE_COLUMNS; ++i) scales[i] = 0.0f;
    return rows;
}

}  // namespace pagedbench::PAGEDBENCH_ISA
