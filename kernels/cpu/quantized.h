// Cached elements of 8 bits. After the elements of a head comes their scale, a float factor:
//
//     | head_dim elements, int8 | scale, float32 |
//
// The scale is the largest absolute value / 127, so that the error of an element is at most half a scale.
#pragma once

#include "simd.h"

namespace pagedbench::PAGEDBENCH_ISA {

constexpr float LARGEST_INT8 = 127.0f;

inline float scale_behind(const std::int8_t* head, std::int64_t head_dim) {
    float scale;
    std::memcpy(&scale, head + head_dim, sizeof scale);
    return scale;
}

/// Rounds to nearest, ties to even. A head that is not finite gets the scale NaN, and one of zeros the scale 0.
template <typename T>
inline void quantize_head(const T* from, std::int64_t head_dim, std::int8_t* to) {
    Vec most = {}, not_finite = {};
    in_vectors(head_dim, [&](std::int64_t i, int count) {
        const Vec value = load_count(from + i, count);
        most = maximum(maximum(value, -value), most);
        not_finite += value * 0.0f;
    });
    const float scale = largest(most) / LARGEST_INT8 + total(not_finite);
    const float divisor = scale > 0.0f ? scale : 1.0f;
    in_vectors(head_dim, [&](std::int64_t i, int count) {
        Vec value = load_count(from + i, count) / divisor;
        value = select(value > LARGEST_INT8, broadcast(LARGEST_INT8), value);  // if the scale is subnormal
        value = select(value < -LARGEST_INT8, broadcast(-LARGEST_INT8), value);
        const Ints rounded = (Ints)(value + 12582912.0f) - 0x4B400000;  // an integer, held in the low bits
        const Bytes bytes = __builtin_convertvector(rounded, Bytes);
        std::memcpy(to + i, &bytes, count);
    });
    std::memcpy(to + head_dim, &scale, sizeof scale);
}

/// The elements of a head in another type, without their scale.
template <typename C, typename E>
[[gnu::always_inline]] inline void widen(const C* from, std::int64_t head_dim, E* to) {
    in_vectors(head_dim, [&](std::int64_t i, int count) { store_count(load_count(from + i, count), to + i, count); });
}

/// numbers[i] *= scales[i] for `count` of them, a multiple of LANES.
inline void multiply_by(const float* scales, int count, float* numbers) {
    for (int i = 0; i < count; i += LANES) store(load(numbers + i) * load(scales + i), numbers + i);
}

}  // namespace pagedbench::PAGEDBENCH_ISA
