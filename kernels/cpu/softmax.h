// The running softmax (Milakov and Gimelshein 2018) that both kinds of attention keep: what has been summed
// so far is relative to the largest score so far.
#pragma once

#include "simd.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Of one query head. `sum` adds exp(score - maximum).
struct Running {
    float maximum;
    float sum;
};

constexpr Running NOTHING_SEEN = {-__builtin_inff(), 0.0f};

/// exp(before - after), by which earlier sums shrink when the maximum grows; 0 if there was nothing before.
inline float shrink(float before, float after) {
    return before == after ? 1.0f : exp_of_negative(broadcast(before - after))[0];
}

/// Turns `num_padded` scores, a multiple of LANES, into weights relative to the new maximum, and returns the
/// factor for what was summed before. Only `num_tokens` of them count; the others become 0.
inline float fold(float* scores, int num_tokens, int num_padded, float scale, Running& running) {
    Vec most = broadcast(running.maximum);
    for (int i = num_tokens; i < num_padded; ++i) scores[i] = -__builtin_inff();
    for (int i = 0; i < num_padded; i += LANES) {
        const Vec scaled = load(scores + i) * scale;
        store(scaled, scores + i);
        most = maximum(most, scaled);
    }
    const float after = largest(most);
    const float factor = shrink(running.maximum, after);
    Vec sums = {};
    for (int i = 0; i < num_padded; i += LANES) {
        const Vec weights = exp_of_negative(load(scores + i) - after);
        store(weights, scores + i);
        sums += weights;
    }
    running.sum = running.sum * factor + total(sums);
    running.maximum = after;
    return factor;
}

}  // namespace pagedbench::PAGEDBENCH_ISA
