// The arithmetic of decode attention on one tile: scores of some tokens, and the weighted sum of their values.
#pragma once

#include <cstdlib>

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

/// scores[i] = query · keys[i] for LANES tokens from `first` on.
template <typename T>
[[gnu::always_inline]] inline void dot(const T* query, const Tokens<T>& tokens, int first, std::int64_t offset,
                                       int head_dim, float* scores) {
    constexpr int STEP = LANES * Unit<T>::ELEMENTS;
    const int whole = head_dim / STEP * STEP, rest = head_dim - whole;
    Vec sums[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        const T* key = tokens.keys[first + i] + offset;
        sums[i] = Vec{};
#pragma GCC unroll 8
        for (int element = 0; element < whole; element += STEP) {
            sums[i] = multiply_add<T>(load_units(query + element), load_units(key + element), sums[i]);
        }
        if (rest) {
            sums[i] = multiply_add<T>(load_first_units(query + whole, rest), load_first_units(key + whole, rest), sums[i]);
        }
    }
    store(totals(sums), scores);
}

/// sums = sums * factor + weights[i] * values[i] over the tile's tokens, VECS vectors of the head.
template <typename T, int VECS>
inline void add_values(const float* weights, const Tokens<T>& tokens, const Tokens<T>& next, std::int64_t offset,
                       float factor, float* sums) {
    Vec parts[VECS];
    for (int vec = 0; vec < VECS; ++vec) parts[vec] = load(sums + vec * LANES) * factor;
    for (int i = 0; i < tokens.count; ++i) {
        fetch(next.values, i, next.count, offset, VECS * LANES);
        const Vec weight = broadcast(weights[i]);
        const T* value = tokens.values[i] + offset;
#pragma GCC unroll 4
        for (int vec = 0; vec < VECS; ++vec) parts[vec] = weight * load(value + vec * LANES) + parts[vec];
    }
    for (int vec = 0; vec < VECS; ++vec) store(parts[vec], sums + vec * LANES);
}

template <typename T>
inline void add_rest(const float* weights, const Tokens<T>& tokens, std::int64_t offset, int rest, float factor,
                     float* sums) {
    Vec part = load(sums) * factor;
    for (int i = 0; i < tokens.count; ++i) {
        part = broadcast(weights[i]) * load_first(tokens.values[i] + offset, rest) + part;
    }
    store(part, sums);
}

template <typename T>
[[gnu::always_inline]] inline void add_head(const float* weights, const Tokens<T>& tokens, const Tokens<T>& next, std::int64_t offset,
                     int head_dim, float factor, float* sums) {
    int element = 0;
    for (; element + 4 * LANES <= head_dim; element += 4 * LANES) {
        add_values<T, 4>(weights, tokens, next, offset + element, factor, sums + element);
    }
    for (; element + LANES <= head_dim; element += LANES) {
        add_values<T, 1>(weights, tokens, next, offset + element, factor, sums + element);
    }
    if (element < head_dim) {
        add_rest(weights, tokens, offset + element, head_dim - element, factor, sums + element);
    }
}

/// One head of a tile as it is computed, and what is fetched for the next tile meanwhile. Scales multiply the
/// scores and the weights; null without any.
template <typename E>
struct HeadTile {
    const Tokens<E>& tokens;
    const Tokens<E>& next;
    std::int64_t offset;
    const float* key_scales = nullptr;    // [TILE_LEN]
    const float* value_scales = nullptr;  // [TILE_LEN]
};

/// Memory of one item for what has to be widened: nothing, unless the cache has 8 bits.
template <typename C>
struct Buffers {
    explicit Buffers(int) {}
};

template <>
struct Buffers<std::int8_t> {
    explicit Buffers(int head_dim) : row_len((head_dim + LANES - 1) / LANES * LANES) {
        rows = static_cast<float*>(std::aligned_alloc(64, ((2 * TILE_LEN + 1) * row_len * sizeof(float) + 63) / 64 * 64));
        query = rows + 2 * TILE_LEN * row_len;
    }

    Buffers(const Buffers&) = delete;

    ~Buffers() { std::free(rows); }

    int row_len;
    float* rows;   // [2, TILE_LEN, row_len]: keys, values
    float* query;  // [row_len]
    Tokens<float> tokens;
    alignas(64) float key_scales[TILE_LEN];
    alignas(64) float value_scales[TILE_LEN];
};

template <typename C>
inline HeadTile<C> head_tile(const Tokens<C>& cached, const Tokens<C>& next, std::int64_t offset, int, Buffers<C>&) {
    return {cached, next, offset};
}

/// Widens one head of every token, once for all query heads that read it.
[[gnu::always_inline]] inline HeadTile<float> head_tile(const Tokens<std::int8_t>& cached,
                                                        const Tokens<std::int8_t>& next, std::int64_t offset,
                                                        int head_dim, Buffers<std::int8_t>& buffers) {
    static const Tokens<float> NOTHING = {};
    float *key = buffers.rows, *value = key + TILE_LEN * buffers.row_len;
    const int row_bytes = head_dim + static_cast<int>(SCALE_LEN<std::int8_t>);
    for (int i = 0; i < cached.count; ++i, key += buffers.row_len, value += buffers.row_len) {
        fetch(next.keys, i, next.count, offset, row_bytes);
        fetch(next.values, i, next.count, offset, row_bytes);
        widen(cached.keys[i] + offset, head_dim, key);
        widen(cached.values[i] + offset, head_dim, value);
        buffers.key_scales[i] = scale_behind(cached.keys[i] + offset, head_dim);
        buffers.value_scales[i] = scale_behind(cached.values[i] + offset, head_dim);
        buffers.tokens.keys[i] = key;
        buffers.tokens.values[i] = value;
    }
    for (int i = cached.count; i % LANES; ++i) {
        buffers.tokens.keys[i] = buffers.tokens.keys[i - 1];
        buffers.key_scales[i] = buffers.value_scales[i] = 0.0f;
    }
    buffers.tokens.count = cached.count;
    return {buffers.tokens, NOTHING, 0, buffers.key_scales, buffers.value_scales};
}

template <typename T>
inline const T* query_to_compute(const T* query, int, Buffers<T>&) { return query; }

template <typename T>
inline const float* query_to_compute(const T* query, int head_dim, Buffers<std::int8_t>& buffers) {
    widen(query, head_dim, buffers.query);
    return buffers.query;
}

}  // namespace pagedbench::PAGEDBENCH_ISA
