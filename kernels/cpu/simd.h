// Vectors of floats as wide as the processor's, and the element types of cache and weights on top of them.
// Written in the compiler's vector extension, so that one source serves every instruction set; only what
// the extension lacks is an intrinsic. Everything is in the namespace PAGEDBENCH_ISA: this header is
// compiled once for each instruction set, and the linker must never share the results.
#pragma once

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace pagedbench::PAGEDBENCH_ISA {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef std::int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef std::uint32_t Bits __attribute__((vector_size(LANES * 4)));
typedef std::uint16_t Halves __attribute__((vector_size(LANES * 2)));
typedef std::int8_t Bytes __attribute__((vector_size(LANES)));

inline Vec broadcast(float value) { return value - Vec{}; }  // adding zero would change -0.0

inline Vec select(Ints condition, Vec yes, Vec no) { return condition ? yes : no; }

/// NaN in `b` wins, NaN in `a` does not.
inline Vec maximum(Vec a, Vec b) {
#if defined(__AVX512F__)
    return (Vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return select(a > b, a, b);
#endif
}

inline Vec absolute(Vec x) { return select(x < 0.0f, -x, x); }

/// The nearest integer, of less than 2^22 in size.
inline Vec rounded(Vec x) { return (x + 12582912.0f) - 12582912.0f; }

inline Vec load(const float* from) {
    Vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline Vec load(const bfloat16* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
#if defined(__AVX512F__)
    return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16);
#elif defined(__AVX2__)
    return (Vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)halves), 16);
#else
    return (Vec)(__builtin_convertvector(halves, Bits) << 16);
#endif
}

inline Vec load(const std::int8_t* from) {
    Bytes bytes;
    std::memcpy(&bytes, from, sizeof bytes);
#if defined(__AVX512F__)
    return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)bytes));
#elif defined(__AVX2__)
    return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    return __builtin_convertvector(bytes, Vec);
#endif
}

inline void store(Vec value, float* to) { std::memcpy(to, &value, sizeof value); }

/// Rounds to nearest, ties to even, like torch; NaN stays NaN.
inline void store(Vec value, bfloat16* to) {
#if defined(__AVX512BF16__)
    const __m256bh halves = _mm512_cvtneps_pbh((__m512)value);
#else
    const Bits bits = (Bits)value;
    const Bits rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const Ints is_nan = value != value;
    const Halves halves =
        __builtin_convertvector(((Bits)is_nan & 0x7FC0u) | (~(Bits)is_nan & rounded), Halves);
#endif
    std::memcpy(to, &halves, LANES * 2);
}

/// The first `count` < LANES elements; the rest is zero.
template <typename T>
inline Vec load_first(const T* from, int count) {
    T all[LANES] = {};
    std::memcpy(all, from, count * sizeof(T));
    return load(all);
}

template <typename T>
inline void store_first(Vec value, T* to, int count) {
    T all[LANES];
    store(value, all);
    std::memcpy(to, all, count * sizeof(T));
}

/// Calls use(offset, count) for the vectors of `size` elements, and for the rest.
template <typename Use>
inline void in_vectors(std::int64_t size, const Use& use) {
    std::int64_t i = 0;
    for (; i + LANES <= size; i += LANES) use(i, LANES);
    if (i < size) use(i, static_cast<int>(size - i));
}

template <typename T>
inline Vec load_count(const T* from, int count) { return count == LANES ? load(from) : load_first(from, count); }

template <typename T>
inline void store_count(Vec value, T* to, int count) {
    if (count == LANES) {
        store(value, to);
    } else {
        store_first(value, to, count);
    }
}

/// The lanes in another order: lane i takes lane i ^ DISTANCE.
template <int DISTANCE>
inline Vec swapped(Vec value) {
    Ints order;
    for (int i = 0; i < LANES; ++i) order[i] = i ^ DISTANCE;
    return __builtin_shuffle(value, order);
}

template <int DISTANCE = LANES / 2>
inline float largest(Vec value) {
    const Vec most = maximum(value, swapped<DISTANCE>(value));
    if constexpr (DISTANCE > 1) return largest<DISTANCE / 2>(most);
    return most[0];
}

template <int DISTANCE = LANES / 2>
inline float total(Vec value) {
    const Vec sums = value + swapped<DISTANCE>(value);
    if constexpr (DISTANCE > 1) return total<DISTANCE / 2>(sums);
    return sums[0];
}

/// Swaps rows and columns: lane j of row i and lane i of row j.
template <int DISTANCE = LANES / 2>
inline void transpose(Vec* rows) {
    Ints low, high;
    for (int i = 0; i < LANES; ++i) {
        low[i] = i & DISTANCE ? LANES + i - DISTANCE : i;
        high[i] = i & DISTANCE ? LANES + i : i + DISTANCE;
    }
    for (int i = 0; i < LANES; ++i) {
        if (i & DISTANCE) continue;
        const Vec first = rows[i], second = rows[i + DISTANCE];
        rows[i] = __builtin_shuffle(first, second, low);
        rows[i + DISTANCE] = __builtin_shuffle(first, second, high);
    }
    if constexpr (DISTANCE > 1) transpose<DISTANCE / 2>(rows);
}

/// Sums of neighbouring pairs, those of `a` before those of `b`.
inline Vec pair_sums(Vec a, Vec b) {
    Ints even, odd;
    for (int i = 0; i < LANES; ++i) even[i] = 2 * i, odd[i] = 2 * i + 1;
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

/// Lane i of the result is the sum of all lanes of sums[i]; in halves, so that everything stays in registers.
template <int COUNT = LANES>
inline Vec totals(const Vec* sums) {
    if constexpr (COUNT == 1) {
        return *sums;
    } else {
        return pair_sums(totals<COUNT / 2>(sums), totals<COUNT / 2>(sums + COUNT / 2));
    }
}

/// exp(x) for x <= 0 to within 2 units in the last place; 0 below -87; NaN stays NaN.
inline Vec exp_of_negative(Vec x) {
    const Vec clamped = select(x < -87.0f, broadcast(-87.0f), x);
    const Vec shifted = clamped * 1.44269504f + 12582912.0f;  // rounds to an integer, held in the low bits
    const Vec power = shifted - 12582912.0f;
    const Vec rest = (clamped - power * 0.693359375f) + power * 2.12194440e-4f;  // ln 2 in two parts
    Vec result = broadcast(1.9875691500e-4f);
    result = result * rest + 1.3981999507e-3f;
    result = result * rest + 8.3334519073e-3f;
    result = result * rest + 4.1665795894e-2f;
    result = result * rest + 1.6666665459e-1f;
    result = result * rest + 5.0000001201e-1f;
    result = result * rest * rest + rest + 1.0f;
    const Vec scaled = (Vec)((Bits)result + ((Bits)shifted << 23));
    return select(x >= -87.0f, scaled, select(x < -87.0f, Vec{}, x));
}

/// The step of a product: one float, or two bfloat16 or four bytes that one instruction multiplies and adds.
template <typename T>
struct Unit;
template <>
struct Unit<float> {
    static constexpr int ELEMENTS = 1;
};
template <>
struct Unit<bfloat16> {
    static constexpr int ELEMENTS = 2;
};
template <>
struct Unit<std::int8_t> {
    static constexpr int ELEMENTS = 4;
};

/// LANES units, whatever their type.
template <typename T>
inline Vec load_units(const T* from) {
    Vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

/// The first `count` < LANES * ELEMENTS elements; the rest is zero.
template <typename T>
inline Vec load_first_units(const T* from, int count) {
    Vec value = {};
    std::memcpy(&value, from, count * sizeof(T));
    return value;
}

/// One unit in every lane.
template <typename T>
inline Vec broadcast_unit(const T* from) {
    std::uint32_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return (Vec)(Bits{} + bits);
}

/// sums + a * b, unit by unit.
template <typename T>
Vec multiply_add(Vec a, Vec b, Vec sums);

template <>
inline Vec multiply_add<float>(Vec a, Vec b, Vec sums) { return a * b + sums; }

template <>
inline Vec multiply_add<bfloat16>(Vec a, Vec b, Vec sums) {
#if defined(__AVX512BF16__)
    return (Vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)a, (__m512bh)b);
#else
    const Bits low = (Bits)a << 16, high = (Bits)a & 0xFFFF0000u;
    sums = (Vec)low * (Vec)((Bits)b << 16) + sums;
    return (Vec)high * (Vec)((Bits)b & 0xFFFF0000u) + sums;
#endif
}

#if defined(__AVX512VNNI__)
/// `a` has no signs; sums are integers in the bits of floats. Around the compiler's own function it copies every sum.
template <>
inline Vec multiply_add<std::int8_t>(Vec a, Vec b, Vec sums) {
    asm volatile("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
    return sums;
}
#endif

/// The sum of two sums of `multiply_add`.
template <typename T>
inline Vec added(Vec a, Vec b) {
    if constexpr (Unit<T>::ELEMENTS == 4) return (Vec)((Ints)a + (Ints)b);
    return a + b;
}

/// Prefetches a cache line. For a compiler a function that does nothing else has no effect, so that it may
/// remove the calls: always_inline keeps them.
[[gnu::always_inline]] inline void prefetch(const void* address) { __builtin_prefetch(address, 0, 2); }
[[gnu::always_inline]] inline void prefetch_to_write(const void* address) { __builtin_prefetch(address, 1, 3); }

}  // namespace pagedbench::PAGEDBENCH_ISA
