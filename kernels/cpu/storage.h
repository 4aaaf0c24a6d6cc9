// Loading and storing the two element types of the cache as float.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace pagedbench {

inline float load(float value) { return value; }

inline float load(bfloat16 value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline void store(float value, float* target) { *target = value; }

/// Rounds to nearest, ties to even, as torch does; NaN stays NaN.
inline void store(float value, bfloat16* target) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    target->bits = static_cast<std::uint16_t>(value != value ? 0x7FC0u : rounded);
}

}  // namespace pagedbench
