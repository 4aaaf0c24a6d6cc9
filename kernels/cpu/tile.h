// The arithmetic of decode attention on one tile: scores of some tokens, and the weighted sum of their values.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "quantized.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Tokens folded into the softmax at once.
constexpr int TILE_LEN = 32;

/// Addresses of a tile's tokens: their first KV head of the item. Up to a multiple of LANES the last repeats.
template <typename T>
struct Tokens {
    int count = 0;
    const T* keys[TILE_LEN];
    const T* values[TILE_LEN];
};

/// Asks for one head of token `index` of those whose keys or values are at `addresses`.
template <typename T>
[[gnu::always_inline]] inline void fetch(const T* const* addresses, int index, int count, std::int64_t offset,
                                         int head_dim) {
    if (index >= count) return;
    const char* first = reinterpret_cast<const char*>(addresses[index] + offset);
    for (int byte = 0; byte < head_dim * static_cast<int>(sizeof(T)); byte += 64) prefetch(first + byte);
}

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

/// The weights of a tile's tokens for some query heads, and the sums of values that they go into.
struct Weighted {
    const float* weights;  // [num_queries, TILE_LEN]
    const float* factors;  // [num_queries], of the sums before
    float* sums;           // [num_queries, stride]
    int stride;
};

/// sums = sums * factor + weights[i] * values[i] over the tile's tokens, VECS vectors of the head from `first` on.
template <int QUERIES, int VECS, typename T, typename C>
inline void add_values(const Weighted& heads, const Side<T>& values, const Side<C>& next, int first) {
    Vec parts[QUERIES][VECS];
    for (int q = 0; q < QUERIES; ++q) {
        for (int vec = 0; vec < VECS; ++vec) {
            parts[q][vec] = load(heads.sums + q * heads.stride + first + vec * LANES) * heads.factors[q];
        }
    }
    for (int i = 0; i < values.count; ++i) {
        fetch(next.rows, i, next.count, next.offset + first, VECS * LANES);
        const T* from = values.rows[i] + values.offset + first;
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

template <int QUERIES, typename T, typename C>
[[gnu::always_inline]] inline void add_head(const Weighted& heads, const Side<T>& values, const Side<C>& next,
                                            int head_dim) {
    constexpr int MOST = QUERIES > 1 ? MOST_SUMS / QUERIES : 8;
    int element = 0;
    for (; element + MOST * LANES <= head_dim; element += MOST * LANES) {
        add_values<QUERIES, MOST>(heads, values, next, element);
    }
    if constexpr (MOST > 4) {
        for (; element + 4 * LANES <= head_dim; element += 4 * LANES) {
            add_values<QUERIES, 4>(heads, values, next, element);
        }
    }
    for (; element + LANES <= head_dim; element += LANES) add_values<QUERIES, 1>(heads, values, next, element);
    if (element < head_dim) add_rest<QUERIES>(heads, values, element, head_dim - element);
}

/// One thread's memory for one item.
class Buffers {
  public:
    Buffers(std::int64_t group, int head_dim) : row_len_((head_dim + LANES - 1) / LANES * LANES) {
        const std::int64_t bytes = (group * (TILE_LEN + 1) + MOST_QUERIES * row_len_) * sizeof(float);
        scores = static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        queries_ = scores + group * TILE_LEN;
        factors = queries_ + MOST_QUERIES * row_len_;
    }

    Buffers(const Buffers&) = delete;

    ~Buffers() { std::free(scores); }

    template <typename C>
    const float* key_scales(const C* const* keys, int count, std::int64_t end) {
        return scales(keys, count, end, scales_);
    }

    template <typename C>
    const float* value_scales(const C* const* values, int count, std::int64_t end) {
        return scales(values, count, end, scales_ + TILE_LEN);
    }

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

    float* scores;   // [group, TILE_LEN]
    float* factors;  // [group], of what was summed before

  private:
    /// Scales stand behind the elements of a head; those that pad a vector are 0. Null without any.
    static const float* scales(const std::int8_t* const* rows, int count, std::int64_t end, float* found) {
        for (int i = 0; i < count; ++i) found[i] = scale_behind(rows[i], end);
        for (int i = count; i % LANES; ++i) found[i] = 0.0f;
        return found;
    }

    template <typename T>
    static const float* scales(const T* const*, int, std::int64_t, float*) { return nullptr; }

    int row_len_;
    float* queries_;  // [MOST_QUERIES, row_len]
    alignas(64) float scales_[2 * TILE_LEN];
};

}  // namespace pagedbench::PAGEDBENCH_ISA
