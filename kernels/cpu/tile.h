// The arithmetic of decode attention on one tile: scores of some tokens, and the weighted sum of their values.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "fetch.h"
#include "quantized.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// The keys or the values of a tile: one head of each token, at `offset`. Rows up to a multiple of LANES can be
/// read. `scales` multiply scores or weights; null without any.
template <typename C>
struct Side {
    const C* const* rows;
    int count;
    std::int64_t offset;
    const float* scales = nullptr;  // [TILE_LEN]
};

/// The most query heads of a KV head that are computed together: what is loaded and widened serves them all.
constexpr int MOST_QUERIES = 4;

/// Sums that leave enough registers for what they are made of.
constexpr int MOST_SUMS = LANES == 16 ? 16 : 8;

/// The type in which queries are multiplied by keys of a cache.
template <typename C>
using QueryType = std::conditional_t<std::is_same_v<C, std::int8_t>, float, C>;

/// Query heads of one KV head, `stride` elements apart.
template <typename Q>
struct Queries {
    const Q* first;
    int stride;
};

/// `count` and what pads it to whole vectors.
constexpr int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

/// LANES units of type Q, widened from another type; with `count` the first elements of them.
template <typename Q, typename C, typename... Count>
[[gnu::always_inline]] inline Vec units(const C* from, Count... count) {
    constexpr bool is_same = std::is_same_v<Q, C>, is_part = sizeof...(count) > 0;
    if constexpr (is_same && is_part) return load_first_units(from, count...);
    if constexpr (is_same && !is_part) return load_units(from);
    if constexpr (!is_same && is_part) return load_first(from, count...);
    if constexpr (!is_same && !is_part) return load(from);
}

/// scores[q][i] = queries[q] · keys[i] for LANES tokens from `first` on; rows of `scores` are TILE_LEN long.
template <int QUERIES, typename Q, typename C>
[[gnu::always_inline]] inline void dot(Queries<Q> queries, const Side<C>& keys, int first, int head_dim, float* scores) {
    constexpr int STEP = LANES * Unit<Q>::ELEMENTS, KEYS = QUERIES == 1 ? 1 : MOST_SUMS / QUERIES;
    const int whole = head_dim / STEP * STEP, rest = head_dim - whole;
    Vec sums[QUERIES][LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i += KEYS) {
        Vec parts[QUERIES][KEYS] = {};
        const auto add = [&](int element, auto... count) __attribute__((always_inline)) {
            Vec key[KEYS];
            for (int k = 0; k < KEYS; ++k) {
                key[k] = units<Q>(keys.rows[first + i + k] + keys.offset + element, count...);
            }
            for (int q = 0; q < QUERIES; ++q) {
                const Vec query = units<Q>(queries.first + q * queries.stride + element, count...);
                for (int k = 0; k < KEYS; ++k) parts[q][k] = multiply_add<Q>(query, key[k], parts[q][k]);
            }
        };
#pragma GCC unroll 8
        for (int element = 0; element < whole; element += STEP) add(element);
        if (rest) add(whole, rest);
        for (int q = 0; q < QUERIES; ++q) {
            for (int k = 0; k < KEYS; ++k) sums[q][i + k] = parts[q][k];
        }
    }
    for (int q = 0; q < QUERIES; ++q) store(totals(sums[q]), scores + q * TILE_LEN);
}

/// Are values multiplied two tokens at a time, by one instruction? Weights are then rounded to their type.
template <typename C>
constexpr bool IN_PAIRS = false;
#if defined(__AVX512BF16__)
template <>
constexpr bool IN_PAIRS<bfloat16> = true;
#endif

/// The weights of a tile's tokens become bfloat16, in the first half of their memory.
inline void round_in_place(float* weights) {
    for (int i = 0; i < TILE_LEN; i += LANES) store(load(weights + i), reinterpret_cast<bfloat16*>(weights) + i);
}

/// The weights of a tile's tokens for some query heads, and the sums of values that they go into.
struct Weighted {
    const float* weights;  // [num_queries, TILE_LEN], or as `round_in_place` leaves them
    const float* factors;  // [num_queries], of the sums before
    float* sums;           // [num_queries, stride]
    int stride;
};

/// sums = sums * factor + weights[i] * values[i] over the tile's tokens, VECS vectors of the head from `first` on.
template <int QUERIES, int VECS, typename C>
inline void add_values(const Weighted& heads, const Side<C>& values, int first) {
    Vec parts[QUERIES][VECS];
    for (int q = 0; q < QUERIES; ++q) {
        for (int vec = 0; vec < VECS; ++vec) {
            parts[q][vec] = load(heads.sums + q * heads.stride + first + vec * LANES) * heads.factors[q];
        }
    }
    for (int i = 0; i < values.count; ++i) {
        const C* from = values.rows[i] + values.offset + first;
        Vec weights[QUERIES];
        for (int q = 0; q < QUERIES; ++q) weights[q] = broadcast(heads.weights[q * TILE_LEN + i]);
#pragma GCC unroll 8
        for (int vec = 0; vec < VECS; ++vec) {
            const Vec value = load(from + vec * LANES);
            for (int q = 0; q < QUERIES; ++q) parts[q][vec] = weights[q] * value + parts[q][vec];
        }
    }
    for (int q = 0; q < QUERIES; ++q) {
        for (int vec = 0; vec < VECS; ++vec) store(parts[q][vec], heads.sums + q * heads.stride + first + vec * LANES);
    }
}

#if defined(__AVX512BF16__)
/// As `add_values`, of rounded weights: two tokens' elements side by side are what one instruction multiplies. Sums
/// of elements 0-3, 8-11, 16-19, 24-27 are then in one vector, and those between in the next. The head's elements
/// from `first` on: `count` of them in the last chunk, and 2 LANES in the others.
template <int QUERIES, int CHUNKS, typename... Count>
inline void add_pairs(const Weighted& heads, const Side<bfloat16>& values, int first, Count... count) {
    const Ints low = {0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27}, high = low + 4;
    const Ints low_back = {0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23}, high_back = low_back + 8;
    const bool is_half = ((count <= LANES) || ... || false);  // the last vector would lie behind the head
    Vec parts[QUERIES][2 * CHUNKS];
    for (int q = 0; q < QUERIES; ++q) {
        for (int i = 0; i < 2 * CHUNKS; i += 2) {
            const float* sums = heads.sums + q * heads.stride + first + i * LANES;
            const Vec one = load(sums) * heads.factors[q], two = is_half ? Vec{} : load(sums + LANES) * heads.factors[q];
            parts[q][i] = __builtin_shuffle(one, two, low);
            parts[q][i + 1] = __builtin_shuffle(one, two, high);
        }
    }
    for (int token = 0; token < values.count; token += 2) {
        const bfloat16* even = values.rows[token] + values.offset + first;
        const bfloat16* odd = values.rows[token + 1] + values.offset + first;
        Vec weights[QUERIES];
        for (int q = 0; q < QUERIES; ++q) {
            weights[q] = broadcast_unit(reinterpret_cast<const bfloat16*>(heads.weights + q * TILE_LEN) + token);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 2 * CHUNKS; i += 2) {
            const __m512i one = (__m512i)units<bfloat16>(even + i * LANES, count...);
            const __m512i two = (__m512i)units<bfloat16>(odd + i * LANES, count...);
            const Vec first_pairs = (Vec)_mm512_unpacklo_epi16(one, two);
            const Vec second_pairs = (Vec)_mm512_unpackhi_epi16(one, two);
            for (int q = 0; q < QUERIES; ++q) {
                parts[q][i] = multiply_add<bfloat16>(weights[q], first_pairs, parts[q][i]);
                parts[q][i + 1] = multiply_add<bfloat16>(weights[q], second_pairs, parts[q][i + 1]);
            }
        }
    }
    for (int q = 0; q < QUERIES; ++q) {
        for (int i = 0; i < 2 * CHUNKS; i += 2) {
            float* sums = heads.sums + q * heads.stride + first + i * LANES;
            store(__builtin_shuffle(parts[q][i], parts[q][i + 1], low_back), sums);
            if (!is_half) store(__builtin_shuffle(parts[q][i], parts[q][i + 1], high_back), sums + LANES);
        }
    }
}

template <int QUERIES>
[[gnu::always_inline]] inline void add_head(const Weighted& heads, const Side<bfloat16>& values, int head_dim) {
    constexpr int CHUNK = 2 * LANES, MOST = MOST_SUMS / QUERIES < 4 ? MOST_SUMS / QUERIES : 4;  // vectors of sums
    int element = 0;
    for (; element + MOST * LANES <= head_dim; element += MOST * LANES) {
        add_pairs<QUERIES, MOST / 2>(heads, values, element);
    }
    for (; element + CHUNK <= head_dim; element += CHUNK) add_pairs<QUERIES, 1>(heads, values, element);
    if (element < head_dim) add_pairs<QUERIES, 1>(heads, values, element, head_dim - element);
}
#endif

template <int QUERIES, typename T>
inline void add_rest(const Weighted& heads, const Side<T>& values, int first, int rest) {
    for (int q = 0; q < QUERIES; ++q) {
        float* sums = heads.sums + q * heads.stride + first;
        Vec part = load(sums) * heads.factors[q];
        for (int i = 0; i < values.count; ++i) {
            const Vec value = load_first(values.rows[i] + values.offset + first, rest);
            part = broadcast(heads.weights[q * TILE_LEN + i]) * value + part;
        }
        store(part, sums);
    }
}

template <int QUERIES, typename C>
[[gnu::always_inline]] inline void add_head(const Weighted& heads, const Side<C>& values, int head_dim) {
    constexpr int MOST = QUERIES > 1 ? MOST_SUMS / QUERIES : 8;
    int element = 0;
    for (; element + MOST * LANES <= head_dim; element += MOST * LANES) {
        add_values<QUERIES, MOST>(heads, values, element);
    }
    if constexpr (MOST > 4) {
        for (; element + 4 * LANES <= head_dim; element += 4 * LANES) {
            add_values<QUERIES, 4>(heads, values, element);
        }
    }
    for (; element + LANES <= head_dim; element += LANES) add_values<QUERIES, 1>(heads, values, element);
    if (element < head_dim) add_rest<QUERIES>(heads, values, element, head_dim - element);
}

/// One thread's memory for one item of `num_heads` query heads.
class Buffers {
  public:
    Buffers(std::int64_t num_heads, int head_dim) : row_len_(padded(head_dim)) {
        const std::int64_t bytes = (num_heads * (TILE_LEN + 1) + MOST_QUERIES * row_len_) * sizeof(float);
        scores = static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        queries_ = scores + num_heads * TILE_LEN;
        factors = queries_ + MOST_QUERIES * row_len_;
    }

    Buffers(const Buffers&) = delete;

    ~Buffers() { std::free(scores); }

    /// The scales behind the elements of a head, valid until the next ones; those that pad a vector are 0. Null
    /// where elements have none.
    const float* scales(const std::int8_t* const* rows, int count, std::int64_t end) {
        for (int i = 0; i < count; ++i) scales_[i] = scale_behind(rows[i], end);
        for (int i = count; i % LANES; ++i) scales_[i] = 0.0f;
        return scales_;
    }

    template <typename T>
    static const float* scales(const T* const*, int, std::int64_t) { return nullptr; }

    /// Up to MOST_QUERIES query heads in the type that they are multiplied in; widened ones are valid until the next.
    template <typename Q, typename T>
    Queries<Q> in_type(const T* queries, int count, int head_dim) {
        if constexpr (std::is_same_v<Q, T>) {
            return {queries, head_dim};
        } else {
            for (int i = 0; i < count; ++i) widen(queries + i * head_dim, head_dim, queries_ + i * row_len_);
            return {queries_, row_len_};
        }
    }

    float* scores;   // [num_heads, TILE_LEN]
    float* factors;  // [num_heads], of what was summed before

  private:
    int row_len_;
    float* queries_;  // [MOST_QUERIES, row_len]
    alignas(64) float scales_[TILE_LEN];
};

}  // namespace pagedbench::PAGEDBENCH_ISA
