// The inner step in loops that a compiler vectorises for any processor.
#include <cstdint>
#include <cstring>

#include "attend.h"
#include "storage.h"

namespace pagedbench {
namespace {

constexpr int STEP = 4;  // tokens at a time: as many streams from memory, and one pass over the sums

/// exp(x) for x <= 0 to within 2 units in the last place; below -87 it stays at exp(-87), about 1e-38.
/// Written out because a call of std::exp would keep the loop around it scalar. The last line is for NaN,
/// whose low bits may leave the exponent anything.
inline float exp_of_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer, held in the low bits
    const float power = shifted - 12582912.0f;
    const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;  // ln 2 in two parts
    float result = 1.9875691500e-4f;
    result = result * rest + 1.3981999507e-3f;
    result = result * rest + 8.3334519073e-3f;
    result = result * rest + 4.1665795894e-2f;
    result = result * rest + 1.6666665459e-1f;
    result = result * rest + 5.0000001201e-1f;
    result = result * rest * rest + rest + 1.0f;
    std::int32_t bits, exponent;
    std::memcpy(&bits, &result, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits = static_cast<std::int32_t>(static_cast<std::uint32_t>(bits) +
                                     (static_cast<std::uint32_t>(exponent) << 23));
    std::memcpy(&result, &bits, sizeof result);
    return x == x ? result : x;
}

/// weights[i] = query · keys[i] for `STEP` tokens.
template <typename T>
inline void dot_step(const float* query, const T* const* keys, std::int64_t offset, int head_dim,
                     float* weights) {
    const T *key0 = keys[0] + offset, *key1 = keys[1] + offset;
    const T *key2 = keys[2] + offset, *key3 = keys[3] + offset;
    float sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f, sum3 = 0.0f;
#pragma omp simd reduction(+ : sum0, sum1, sum2, sum3)
    for (int i = 0; i < head_dim; ++i) {
        sum0 += query[i] * load(key0[i]);
        sum1 += query[i] * load(key1[i]);
        sum2 += query[i] * load(key2[i]);
        sum3 += query[i] * load(key3[i]);
    }
    weights[0] = sum0, weights[1] = sum1, weights[2] = sum2, weights[3] = sum3;
}

/// accumulated += weights[i] * values[i], summed over `STEP` tokens.
template <typename T>
inline void add_step(const float* weights, const T* const* values, std::int64_t offset, int head_dim,
                     float* __restrict accumulated) {
    const T *value0 = values[0] + offset, *value1 = values[1] + offset;
    const T *value2 = values[2] + offset, *value3 = values[3] + offset;
    const float weight0 = weights[0], weight1 = weights[1], weight2 = weights[2], weight3 = weights[3];
#pragma omp simd
    for (int i = 0; i < head_dim; ++i) {
        accumulated[i] += (weight0 * load(value0[i]) + weight1 * load(value1[i])) +
                          (weight2 * load(value2[i]) + weight3 * load(value3[i]));
    }
}

/// Scores become weights relative to the new maximum; what was summed before is scaled to it.
inline void fold(const Heads& heads, int head, int num_tokens, Softmax softmax) {
    float* weights = softmax.weights + head * TILE_LEN;
    float maximum = softmax.maximum[head];
#pragma omp simd reduction(max : maximum)
    for (int i = 0; i < num_tokens; ++i) {
        weights[i] *= heads.scale;
        maximum = weights[i] > maximum ? weights[i] : maximum;
    }
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < num_tokens; ++i) {
        weights[i] = exp_of_negative(weights[i] - maximum);
        sum += weights[i];
    }
    const float correction = exp_of_negative(softmax.maximum[head] - maximum);
    float* accumulated = softmax.accumulated + static_cast<std::int64_t>(head) * heads.head_dim;
#pragma omp simd
    for (int i = 0; i < heads.head_dim; ++i) accumulated[i] *= correction;
    softmax.sum[head] = softmax.sum[head] * correction + sum;
    softmax.maximum[head] = maximum;
}

/// The tile is read row by row, all heads of a token together, because that is how it lies in memory.
template <typename T>
void attend(const Heads& heads, const float* query, const Tile<T>& tile, Softmax softmax) {
    const int head_dim = heads.head_dim;
    // The last step may be short: its missing tokens repeat the last one, with weight 0.
    Tile<T> padded = tile;
    const int num_padded = (tile.num_tokens + STEP - 1) / STEP * STEP;
    for (int i = tile.num_tokens; i < num_padded; ++i) {
        padded.keys[i] = tile.keys[tile.num_tokens - 1];
        padded.values[i] = tile.values[tile.num_tokens - 1];
    }
    for (int i = 0; i < num_padded; i += STEP) {
        for (int head = 0; head < heads.num_heads; ++head) {
            dot_step(query + head * head_dim, padded.keys + i, head / heads.group_size * head_dim, head_dim,
                     softmax.weights + head * TILE_LEN + i);
        }
    }
    for (int head = 0; head < heads.num_heads; ++head) {
        fold(heads, head, tile.num_tokens, softmax);
        for (int i = tile.num_tokens; i < num_padded; ++i) softmax.weights[head * TILE_LEN + i] = 0.0f;
    }
    for (int i = 0; i < num_padded; i += STEP) {
        for (int head = 0; head < heads.num_heads; ++head) {
            add_step(softmax.weights + head * TILE_LEN + i, padded.values + i,
                     head / heads.group_size * head_dim, head_dim,
                     softmax.accumulated + head * head_dim);
        }
    }
}

}  // namespace

const InstructionSet portable = {"portable", attend<float>, attend<bfloat16>};

}  // namespace pagedbench
