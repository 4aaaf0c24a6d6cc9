// The running softmax (Milakov and Gimelshein 2018) of both kinds of attention: sums so far are relative to
// the largest score so far.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// The state of one query head. `sum` adds exp(score - maximum).
struct Running {
    float maximum;
    float sum;
};

constexpr Running NOTHING_SEEN = {-__builtin_inff(), 0.0f};

/// Begins with a score that has no value: the head's sink logit, if there is one.
inline Running before_tokens(const Scores& scores, std::int64_t head) {
    return scores.sink_logits ? Running{scores.sink_logits[head], 1.0f} : NOTHING_SEEN;
}

/// exp(before - after), by which earlier sums shrink when the maximum grows; 0 if there was nothing before.
inline float shrink(float before, float after) {
    return before == after ? 1.0f : exp_of_negative(broadcast(before - after))[0];
}

/// Caps `num_padded` products with keys, a multiple of LANES; from then on their scale is 1. Returns the scale
/// that is left. tanh(x) is (1 - e) / (1 + e) with e = exp(-2x), for an x of either sign.
inline float cap(float* products, int num_padded, const Scores& scores) {
    if (scores.softcap == 0.0f) return scores.scale;
    const float scale = scores.scale / scores.softcap;
    for (int i = 0; i < num_padded; i += LANES) {
        const Vec x = load(products + i) * scale;
        const Vec e = exp_of_negative(select(x < 0.0f, x, -x) * 2.0f);
        const Vec tanh = (1.0f - e) / (1.0f + e) * scores.softcap;
        store(select(x < 0.0f, -tanh, tanh), products + i);
    }
    return 1.0f;
}

/// Turns `num_padded` scores, a multiple of LANES, into weights relative to the new maximum, and returns the
/// factor for earlier sums. Only `num_tokens` of them count; the others become 0.
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
