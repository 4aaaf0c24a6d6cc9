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

/// The keys or the values of a tile: one head of each token, at `offset`. Rows up to a multiple of LANES can be
/// read. `scales` multiply scores or weights; null without any.
template <typename C>
struct Side {
    const C* const* rows;
    int count;
    std::int64_t offset;
    const float* scales = nullptr;  // [TILE_LEN]
};

/// scores[i] = query · keys[i] for LANES tokens from `first` on.
template <typename T>
[[gnu::always_inline]] inline void dot(const T* query, const Side<T>& keys, int first, int head_dim, float* scores) {
    constexpr int STEP = LANES * Unit<T>::ELEMENTS;
    const int whole = head_dim / STEP * STEP, rest = head_dim - whole;
    Vec sums[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        const T* key = keys.rows[first + i] + keys.offset;
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

/// Keys of 8 bits are widened on their way into the product.
[[gnu::always_inline]] inline void dot(const float* query, const Side<std::int8_t>& keys, int first, int head_dim,
                                       float* scores) {
    const int whole = head_dim / LANES * LANES, rest = head_dim - whole;
    Vec sums[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        const std::int8_t* key = keys.rows[first + i] + keys.offset;
        sums[i] = Vec{};
#pragma GCC unroll 8
        for (int element = 0; element < whole; element += LANES) {
            sums[i] = load(query + element) * load(key + element) + sums[i];
        }
        if (rest) sums[i] = load_first(query + whole, rest) * load_first(key + whole, rest) + sums[i];
    }
    store(totals(sums), scores);
}

/// sums = sums * factor + weights[i] * values[i] over the tile's tokens, VECS vectors of the head from `first` on.
template <int VECS, typename T, typename C>
inline void add_values(const float* weights, const Side<T>& values, const Side<C>& next, int first, float factor,
                       float* sums) {
    Vec parts[VECS];
    for (int vec = 0; vec < VECS; ++vec) parts[vec] = load(sums + vec * LANES) * factor;
    for (int i = 0; i < values.count; ++i) {
        fetch(next.rows, i, next.count, next.offset + first, VECS * LANES);
        const Vec weight = broadcast(weights[i]);
        const T* value = values.rows[i] + values.offset + first;
#pragma GCC unroll 8
        for (int vec = 0; vec < VECS; ++vec) parts[vec] = weight * load(value + vec * LANES) + parts[vec];
    }
    for (int vec = 0; vec < VECS; ++vec) store(parts[vec], sums + vec * LANES);
}

template <typename T>
inline void add_rest(const float* weights, const Side<T>& values, int first, int rest, float factor, float* sums) {
    Vec part = load(sums) * factor;
    for (int i = 0; i < values.count; ++i) {
        part = broadcast(weights[i]) * load_first(values.rows[i] + values.offset + first, rest) + part;
    }
    store(part, sums);
}

template <typename T, typename C>
[[gnu::always_inline]] inline void add_head(const float* weights, const Side<T>& values, const Side<C>& next,
                                            int head_dim, float factor, float* sums) {
    int element = 0;
    for (; element + 8 * LANES <= head_dim; element += 8 * LANES) {
        add_values<8>(weights, values, next, element, factor, sums + element);
    }
    for (; element + 4 * LANES <= head_dim; element += 4 * LANES) {
        add_values<4>(weights, values, next, element, factor, sums + element);
    }
    for (; element + LANES <= head_dim; element += LANES) {
        add_values<1>(weights, values, next, element, factor, sums + element);
    }
    if (element < head_dim) {
        add_rest(weights, values, element, head_dim - element, factor, sums + element);
    }
}

/// One thread's memory for one item: scores, and what caches of 8 bits are widened to.
class Buffers {
  public:
    Buffers(std::int64_t group, int head_dim, bool is_widened) : row_len_((head_dim + LANES - 1) / LANES * LANES) {
        const std::int64_t num_wide = is_widened ? (TILE_LEN + 1) * row_len_ : 0;
        const std::int64_t bytes = (group * (TILE_LEN + 1) + num_wide) * sizeof(float);
        scores = static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        wide_ = scores + group * TILE_LEN;
        query_ = wide_ + (is_widened ? TILE_LEN * row_len_ : 0);
        factors = query_ + (is_widened ? row_len_ : 0);
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

    /// A side in float, valid until the next one; meanwhile the same one of the next tile is fetched.
    Side<float> widened(const Side<std::int8_t>& side, const Side<std::int8_t>& next, int head_dim) {
        float* row = wide_;
        for (int i = 0; i < side.count; ++i, row += row_len_) {
            fetch(next.rows, i, next.count, next.offset, head_dim + static_cast<int>(SCALE_LEN<std::int8_t>));
            widen(side.rows[i] + side.offset, head_dim, row);
            rows_[i] = row;
        }
        for (int i = side.count; i % LANES; ++i) rows_[i] = rows_[i - 1];
        return {rows_, side.count, 0, side.scales};
    }

    /// A query in the type that it is multiplied in.
    template <typename T>
    const T* query_for(const T* query, int, const T*) { return query; }

    template <typename T, typename K>
    const float* query_for(const T* query, int head_dim, const K*) {
        widen(query, head_dim, query_);
        return query_;
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
    float* wide_;   // [TILE_LEN, row_len]
    float* query_;  // [row_len]
    alignas(64) float scales_[2 * TILE_LEN];
    const float* rows_[TILE_LEN];
};

}  // namespace pagedbench::PAGEDBENCH_ISA
