// What paged and contiguous decode share: the split of the work, and the loop over a sequence's tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "attend.h"
#include "storage.h"

namespace pagedbench {

/// Items a thread should get, so that long sequences even out.
constexpr std::int64_t ITEMS_PER_THREAD = 8;

/// KV heads of one work item. All heads of a token lie together, so a whole sequence is read fastest;
/// only where there are few sequences are their heads divided.
inline std::int64_t kv_heads_per_item(std::int64_t num_sequences, std::int64_t num_kv_heads, int num_threads) {
    if (num_threads == 1) return num_kv_heads;
    const std::int64_t wanted = ITEMS_PER_THREAD * num_threads;
    const std::int64_t parts = (wanted + num_sequences - 1) / std::max<std::int64_t>(num_sequences, 1);
    return std::max<std::int64_t>(1, num_kv_heads / std::max<std::int64_t>(parts, 1));
}

/// One thread's scratch for one work item.
struct Workspace {
    std::vector<float> query, maximum, sum, accumulated, weights;

    Workspace(std::int64_t num_heads, std::int64_t head_dim)
        : query(num_heads * head_dim), maximum(num_heads), sum(num_heads),
          accumulated(num_heads * head_dim), weights(num_heads * TILE_LEN) {}

    template <typename T>
    void start(const T* from, std::int64_t num_heads, std::int64_t head_dim) {
        for (std::int64_t i = 0; i < num_heads * head_dim; ++i) query[i] = load(from[i]);
        std::fill(maximum.begin(), maximum.end(), -std::numeric_limits<float>::infinity());
        std::fill(sum.begin(), sum.end(), 0.0f);
        std::fill(accumulated.begin(), accumulated.end(), 0.0f);
    }

    /// An empty context gives zeros.
    template <typename T>
    void finish(T* to, std::int64_t num_heads, std::int64_t head_dim) const {
        for (std::int64_t head = 0; head < num_heads; ++head) {
            const float total = sum[head] == 0.0f ? 1.0f : sum[head];
            for (std::int64_t i = head * head_dim; i < (head + 1) * head_dim; ++i) {
                store(accumulated[i] / total, to + i);
            }
        }
    }
};

/// `slots_of(sequence, start, num_tokens, slots)` writes the slots of a tile's positions.
template <typename T, typename SlotsOf>
void decode_item(const Decode<T>& decode, const SlotsOf& slots_of, std::int64_t sequence,
                 std::int64_t first_kv_head, std::int64_t num_kv_heads, Workspace& workspace) {
    const std::int64_t head_dim = decode.query.head_dim;
    const std::int64_t group_size = decode.query.num_heads / decode.keys.num_heads;
    const std::int64_t num_heads = num_kv_heads * group_size;
    const std::int64_t query_offset = first_kv_head * group_size * head_dim;
    const Heads heads = {static_cast<int>(num_heads), static_cast<int>(group_size),
                         static_cast<int>(head_dim), decode.scale};
    const AttendTile<T> attend = attend_tile<T>();
    workspace.start(decode.query.row(sequence) + query_offset, num_heads, head_dim);
    const Softmax softmax = {workspace.maximum.data(), workspace.sum.data(), workspace.accumulated.data(),
                             workspace.weights.data()};
    std::int64_t slots[TILE_LEN];
    Tile<T> tile;
    const std::int64_t context_len = decode.context_lens[sequence];
    for (std::int64_t start = 0; start < context_len; start += TILE_LEN) {
        tile.num_tokens = static_cast<int>(std::min<std::int64_t>(TILE_LEN, context_len - start));
        slots_of(sequence, start, tile.num_tokens, slots);
        for (int i = 0; i < tile.num_tokens; ++i) {
            tile.keys[i] = decode.keys.row(slots[i]) + first_kv_head * head_dim;
            tile.values[i] = decode.values.row(slots[i]) + first_kv_head * head_dim;
        }
        attend(heads, workspace.query.data(), tile, softmax);
    }
    workspace.finish(decode.out.row(sequence) + query_offset, num_heads, head_dim);
}

/// Every (sequence, KV head) is computed by one thread in one order: the result does not depend on how
/// many threads there are.
template <typename T, typename SlotsOf>
void decode_all(const Decode<T>& decode, const SlotsOf& slots_of) {
    const std::int64_t num_sequences = decode.query.num_rows;
    const std::int64_t num_kv_heads = decode.keys.num_heads;
    const std::int64_t group_size = decode.query.num_heads / num_kv_heads;
    const std::int64_t share = kv_heads_per_item(num_sequences, num_kv_heads, decode.num_threads);
    const std::int64_t items_per_sequence = (num_kv_heads + share - 1) / share;
#pragma omp parallel num_threads(decode.num_threads)
    {
        Workspace workspace(share * group_size, decode.query.head_dim);
#pragma omp for schedule(dynamic, 1)
        for (std::int64_t item = 0; item < num_sequences * items_per_sequence; ++item) {
            const std::int64_t first = item % items_per_sequence * share;
            decode_item(decode, slots_of, item / items_per_sequence, first,
                        std::min(share, num_kv_heads - first), workspace);
        }
    }
}

}  // namespace pagedbench
