// Where the tokens of some sequences lie, and what of them is seen: from Python's arguments, checked.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "arguments.h"

namespace pagedbench {

inline Window window_of(std::optional<std::int64_t> window, std::int64_t sinks) {
    constexpr std::int64_t MOST = std::numeric_limits<std::int32_t>::max();  // as lengths are int32
    if (window && *window < 1) fail_value("window must be at least 1");
    if (sinks < 0) fail_value("sinks must be at least 0");
    return {std::min(window.value_or(MOST), MOST), std::min(sinks, MOST)};
}

inline Scores scores_of(double scale, std::optional<double> softcap, const std::optional<Array>& sink_logits,
                        std::int64_t num_heads) {
    if (softcap && !(*softcap > 0.0)) fail_value("softcap must be above 0");
    const float* sinks = sink_logits ? floats({"sink_logits", *sink_logits}, {num_heads}) : nullptr;
    return {static_cast<float>(scale), static_cast<float>(softcap.value_or(0.0)), sinks};
}

/// Slots of a cache, one for each token; -1 is none.
inline const std::int64_t* slots_of(const Array& slots, std::int64_t num_tokens, std::int64_t num_slots) {
    const auto* all = integers<std::int64_t>({"slots", slots}, {num_tokens});
    for (std::int64_t i = 0; i < num_tokens; ++i) {
        if (all[i] < -1 || all[i] >= num_slots) {
            fail_value("slot " + std::to_string(all[i]) + " lies outside the cache, which has " +
                       std::to_string(num_slots) + " slots");
        }
    }
    return all;
}

/// Block tables if there is a block size, else the starts of extents.
struct Addresses {
    const Array& where;
    std::optional<std::int64_t> block_size;
    const std::optional<Array>& first_positions;
};

/// Contexts, and the queries at their ends: rows query_starts[i] to query_ends[i] - 1, or one each.
struct Contexts {
    std::int64_t num_sequences;
    const std::int32_t* lens;
    const std::int32_t* query_starts;
    const std::int32_t* query_ends;
    Window window;

    std::int64_t num_queries(std::int64_t i) const {
        return query_starts ? query_ends[i] - query_starts[i] : lens[i] > 0;
    }
    Gap gap(std::int64_t i) const { return window.gap(lens[i] - num_queries(i)); }
};

/// Table entries of a sequence, in columns first to end - 1.
inline void check_blocks(const std::int32_t* table, std::int64_t first, std::int64_t end, std::int64_t num_blocks) {
    for (std::int64_t column = first; column < end; ++column) {
        if (table[column] < 0 || table[column] >= num_blocks) {
            fail_value("block " + std::to_string(table[column]) + " lies outside the cache, which has " +
                       std::to_string(num_blocks) + " blocks");
        }
    }
}

/// Checks the entries of tokens that are read; the others may have any value.
inline void check_table(const Placement& placement, const Contexts& contexts, std::int64_t i, std::int64_t num_blocks) {
    const std::int64_t block_size = placement.block_size, missing = placement.missing_columns(i);
    const std::int64_t end = (contexts.lens[i] + block_size - 1) / block_size - missing;
    const std::int32_t* table = placement.block_tables + i * placement.max_blocks;
    const Gap gap = contexts.gap(i);
    const std::int64_t seen = gap.start + gap.length;  // from here on, after a gap
    if (placement.first_positions) {
        const std::int32_t first = placement.first_positions[i];
        if (first < 0 || first % block_size != 0 || (missing > 0 && first > seen)) {
            fail_value("first_positions[" + std::to_string(i) + "] is " + std::to_string(first) +
                       ", which must be a multiple of block_size and not behind what is seen");
        }
    }
    if (end > placement.max_blocks) {
        fail_value("context_lens[" + std::to_string(i) + "] is " + std::to_string(contexts.lens[i]) +
                   ", which does not fit the block table");
    }
    if (gap.length > 0) check_blocks(table, 0, (gap.start + block_size - 1) / block_size, num_blocks);
    check_blocks(table, gap.length > 0 ? seen / block_size - missing : 0, end, num_blocks);
}

inline Placement in_blocks(const Addresses& addresses, const Contexts& contexts, std::int64_t num_slots) {
    const std::int64_t block_size = *addresses.block_size, num_sinks = contexts.window.num_sinks;
    if (block_size < 1) fail_value("block_size must be at least 1");
    if (addresses.where.ndim() != 2) fail_value("block_tables must have two dimensions");
    const auto max_blocks = static_cast<std::int64_t>(addresses.where.shape(1));
    const auto* tables = integers<std::int32_t>({"block_tables", addresses.where}, {contexts.num_sequences, max_blocks});
    const std::int32_t* first_positions = nullptr;
    if (addresses.first_positions) {
        first_positions = integers<std::int32_t>({"first_positions", *addresses.first_positions}, {contexts.num_sequences});
    }
    const Placement placement = {tables, max_blocks, block_size, first_positions,
                                 (num_sinks + block_size - 1) / block_size, nullptr};
    for (std::int64_t i = 0; i < contexts.num_sequences; ++i) {
        if (contexts.lens[i] < 0) {
            fail_value("context_lens[" + std::to_string(i) + "] is " + std::to_string(contexts.lens[i]) +
                       ", which does not fit the block table");
        }
        if (contexts.num_queries(i) > 0) check_table(placement, contexts, i, num_slots / block_size);
    }
    return placement;
}

inline Placement in_extents(const Array& extent_starts, const Contexts& contexts, std::int64_t num_slots) {
    const auto* starts = integers<std::int64_t>({"extent_starts", extent_starts}, {contexts.num_sequences});
    for (std::int64_t i = 0; i < contexts.num_sequences; ++i) {
        if (contexts.lens[i] < 0 || starts[i] < 0 || starts[i] > num_slots - contexts.lens[i]) {
            fail_value("the extent of sequence " + std::to_string(i) + " lies outside the cache, which has " +
                       std::to_string(num_slots) + " slots");
        }
    }
    return {nullptr, 0, 0, nullptr, 0, starts};
}

inline Placement placed(const Addresses& addresses, const Contexts& contexts, std::int64_t num_slots) {
    if (addresses.block_size) return in_blocks(addresses, contexts, num_slots);
    return in_extents(addresses.where, contexts, num_slots);
}

}  // namespace pagedbench
