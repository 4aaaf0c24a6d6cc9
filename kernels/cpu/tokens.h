// Operations on one token at a time: norms, the rotary embedding, and writing keys and values to their slots.
#pragma once

#include "quantized.h"
#include "threads.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Waking a thread takes as long as touching some tens of KiB.
constexpr std::int64_t SERIAL_BYTES = 1 << 16;

/// Tokens per task.
constexpr std::int64_t TOKENS_PER_TASK = 8;

/// Calls work(first, end) for the tokens of every task.
template <typename Work>
void for_tokens(std::int64_t num_tokens, std::int64_t bytes_per_token, int num_threads, const Work& work) {
    if (num_tokens * bytes_per_token < SERIAL_BYTES) num_threads = 1;
    share_out((num_tokens + TOKENS_PER_TASK - 1) / TOKENS_PER_TASK, num_threads, [&](std::int64_t task, int) {
        const std::int64_t end = (task + 1) * TOKENS_PER_TASK;
        work(task * TOKENS_PER_TASK, end < num_tokens ? end : num_tokens);
    });
}

/// Prefetches the slots of some tokens at once, because no cache line near them was used recently.
template <typename T, typename C>
[[gnu::always_inline]] inline void fetch_slots(const Write<T, C>& write, std::int64_t first, std::int64_t end) {
    const std::int64_t bytes = write.key_cache.num_heads * write.key_cache.head_dim * sizeof(C);
    for (std::int64_t token = first; token < end; ++token) {
        if (write.slots[token] < 0) continue;
        const auto* key = reinterpret_cast<const char*>(write.key_cache.row(write.slots[token]));
        const auto* value = reinterpret_cast<const char*>(write.value_cache.row(write.slots[token]));
        for (std::int64_t byte = 0; byte < bytes; byte += 64) prefetch_to_write(key + byte), prefetch_to_write(value + byte);
    }
}

/// Writes the heads of one token unchanged.
template <typename T>
inline void write_heads(const T* from, std::int64_t num_heads, std::int64_t head_dim, T* to) {
    std::memcpy(to, from, num_heads * head_dim * sizeof(T));
}

/// Writes the heads of one token in 8 bits.
template <typename T>
inline void write_heads(const T* from, std::int64_t num_heads, std::int64_t head_dim, std::int8_t* to) {
    for (std::int64_t head = 0; head < num_heads; ++head) {
        quantize_head(from + head * head_dim, head_dim, to + head * (head_dim + SCALE_LEN<std::int8_t>));
    }
}

template <typename T, typename C>
inline void write_token(const Write<T, C>& write, std::int64_t token) {
    const std::int64_t slot = write.slots[token], num_heads = write.key.num_heads, head_dim = write.key.head_dim;
    if (slot < 0) return;
    write_heads<T>(write.key.row(token), num_heads, head_dim, write.key_cache.row(slot));
    write_heads<T>(write.value.row(token), num_heads, head_dim, write.value_cache.row(slot));
}

template <typename T, typename C>
void write_kv(const Write<T, C>& write) {
    const std::int64_t bytes = 2 * write.key.num_heads * write.key.head_dim * sizeof(T);
    for_tokens(write.key.num_rows, bytes, write.num_threads, [&](std::int64_t first, std::int64_t end) {
        fetch_slots(write, first, end);
        for (std::int64_t token = first; token < end; ++token) write_token(write, token);
    });
}

/// Rotates the pairs (i, i + half) of every head.
template <typename T>
inline void rotate(T* heads, std::int64_t num_heads, std::int64_t half, const float* cosine, const float* sine) {
    for (std::int64_t head = 0; head < num_heads; ++head, heads += 2 * half) {
        std::int64_t i = 0;
        for (; i + LANES <= half; i += LANES) {
            const Vec first = load(heads + i), second = load(heads + half + i);
            const Vec c = load(cosine + i), s = load(sine + i);
            store(first * c - second * s, heads + i);
            store(second * c + first * s, heads + half + i);
        }
        if (const int rest = static_cast<int>(half - i); rest > 0) {
            const Vec first = load_first(heads + i, rest), second = load_first(heads + half + i, rest);
            const Vec c = load_first(cosine + i, rest), s = load_first(sine + i, rest);
            store_first(first * c - second * s, heads + i, rest);
            store_first(second * c + first * s, heads + half + i, rest);
        }
    }
}

template <typename T, typename C>
void rotate_and_write_kv(const Write<T, C>& write, const Rotation<T>& rotation) {
    const std::int64_t half = write.key.head_dim / 2, num_heads = rotation.query.num_heads + 2 * write.key.num_heads;
    const std::int64_t bytes = num_heads * 2 * half * sizeof(T);
    for_tokens(write.key.num_rows, bytes, write.num_threads, [&](std::int64_t first, std::int64_t end) {
        fetch_slots(write, first, end);
        for (std::int64_t token = first; token < end; ++token) {
            const float *cosine = rotation.cosine + token * half, *sine = rotation.sine + token * half;
            rotate(rotation.query.row(token), rotation.query.num_heads, half, cosine, sine);
            rotate(write.key.row(token), write.key.num_heads, half, cosine, sine);
            write_token(write, token);
        }
    });
}

/// The residual, the statistics and the norm of one token. Squared deviations from the mean are summed, because
/// the difference of two large sums would lose precision.
template <typename T>
void norm_token(const Norm<T>& norm, std::int64_t token) {
    T* hidden = norm.hidden.row(token);
    const std::int64_t size = norm.hidden.num_columns;
    Vec sums = {}, squares = {};
    in_vectors(size, [&](std::int64_t i, int count) {
        Vec value = load_count(hidden + i, count);
        if (norm.delta) {
            store_count(value + load_count(norm.delta->row(token) + i, count), hidden + i, count);
            value = load_count(hidden + i, count);  // the rounded numbers
        }
        sums += value;
        squares += value * value;
    });
    const float mean = norm.is_centred ? total(sums) / size : 0.0f;
    if (norm.is_centred) {
        squares = Vec{};
        in_vectors(size, [&](std::int64_t i, int count) {
            Vec value = load_count(hidden + i, count) - mean;
            for (int lane = count; lane < LANES; ++lane) value[lane] = 0.0f;  // no element, no deviation
            squares += value * value;
        });
    }
    const float scale = 1.0f / __builtin_sqrtf(total(squares) / size + norm.epsilon);
    in_vectors(size, [&](std::int64_t i, int count) {
        Vec value = (load_count(hidden + i, count) - mean) * scale;
        if (norm.weight) value *= load_count(norm.weight + i, count);
        if (norm.bias) value += load_count(norm.bias + i, count);
        store_count(value, norm.out.row(token) + i, count);
    });
}

template <typename T>
void norm(const Norm<T>& arguments) {
    for_tokens(arguments.hidden.num_rows, 4 * arguments.hidden.num_columns * sizeof(T), arguments.num_threads,
               [&](std::int64_t first, std::int64_t end) {
                   for (std::int64_t token = first; token < end; ++token) norm_token(arguments, token);
               });
}

}  // namespace pagedbench::PAGEDBENCH_ISA
