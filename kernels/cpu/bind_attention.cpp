// Bindings of attention, for new tokens and for prompts, over blocks and over extents.
#include <algorithm>
#include <limits>

#include "bindings.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

/// C is the type of the caches.
template <typename T, typename C>
struct Tensors {
    Rows<const T> query;
    Rows<T> out;
    Rows<const C> keys, values;
};

template <typename T, typename C>
Tensors<T, C> tensors(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                      int num_threads) {
    const Tensors<T, C> all = {rows<const T>({"query", query}), rows<T>({"out", out}),
                               rows<const C>({"key_cache", key_cache}), rows<const C>({"value_cache", value_cache})};
    if (!have_same_shape(all.out, all.query)) fail_value("out must have the shape of query");
    if (!have_same_shape(all.keys, all.values)) fail_value("key_cache and value_cache must have the same shape");
    check_head_dim<C>(true, "query and key_cache must have the same head_dim", all.query.head_dim, all.keys.head_dim);
    if (all.query.num_heads % all.keys.num_heads != 0) {
        fail_value("the number of query heads must be a multiple of the number of KV heads");
    }
    check_threads(num_threads);
    return all;
}

Window window_of(std::optional<std::int64_t> window, std::int64_t sinks) {
    constexpr std::int64_t MOST = std::numeric_limits<std::int32_t>::max();  // as lengths are int32
    if (window && *window < 1) fail_value("window must be at least 1");
    if (sinks < 0) fail_value("sinks must be at least 0");
    return {std::min(window.value_or(MOST), MOST), std::min(sinks, MOST)};
}

Scores scores_of(double scale, std::optional<double> softcap, const std::optional<Array>& sink_logits,
                 std::int64_t num_heads) {
    if (softcap && !(*softcap > 0.0)) fail_value("softcap must be above 0");
    const float* sinks = sink_logits ? floats({"sink_logits", *sink_logits}, {num_heads}) : nullptr;
    return {static_cast<float>(scale), static_cast<float>(softcap.value_or(0.0)), sinks};
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
void check_blocks(const std::int32_t* table, std::int64_t first, std::int64_t end, std::int64_t num_blocks) {
    for (std::int64_t column = first; column < end; ++column) {
        if (table[column] < 0 || table[column] >= num_blocks) {
            fail_value("block " + std::to_string(table[column]) + " lies outside the cache, which has " +
                       std::to_string(num_blocks) + " blocks");
        }
    }
}

/// Checks the entries of tokens that are read; the others may have any value.
void check_table(const Placement& placement, const Contexts& contexts, std::int64_t i, std::int64_t num_blocks) {
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

Placement in_blocks(const Addresses& addresses, const Contexts& contexts, std::int64_t num_slots) {
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

Placement in_extents(const Array& extent_starts, const Contexts& contexts, std::int64_t num_slots) {
    const auto* starts = integers<std::int64_t>({"extent_starts", extent_starts}, {contexts.num_sequences});
    for (std::int64_t i = 0; i < contexts.num_sequences; ++i) {
        if (contexts.lens[i] < 0 || starts[i] < 0 || starts[i] > num_slots - contexts.lens[i]) {
            fail_value("the extent of sequence " + std::to_string(i) + " lies outside the cache, which has " +
                       std::to_string(num_slots) + " slots");
        }
    }
    return {nullptr, 0, 0, nullptr, 0, starts};
}

Placement placed(const Addresses& addresses, const Contexts& contexts, std::int64_t num_slots) {
    if (addresses.block_size) return in_blocks(addresses, contexts, num_slots);
    return in_extents(addresses.where, contexts, num_slots);
}

template <typename T, typename C>
void run_decode(const Tensors<T, C>& all, const Addresses& addresses, const Array& context_lens, Scores scores,
                Window window, int num_threads) {
    const auto* lens = integers<std::int32_t>({"context_lens", context_lens}, {all.query.num_rows});
    const Placement placement = placed(addresses, {all.query.num_rows, lens, nullptr, nullptr, window}, all.keys.num_rows);
    nb::gil_scoped_release release;
    cache_kernels<T>(all.keys.data).decode(
        {all.out, all.query, all.keys, all.values, placement, lens, window, scores, num_threads});
}

void check_queries(const std::int32_t* starts, const std::int32_t* ends, const std::int32_t* lens,
                   std::int64_t num_sequences, std::int64_t num_tokens) {
    for (std::int64_t i = 0; i < num_sequences; ++i) {
        if (starts[i] < 0 || ends[i] > num_tokens) fail_value("query_starts reach beyond query");
        const std::int32_t count = ends[i] - starts[i];
        if (count < 0 || count > lens[i]) {
            fail_value("query_starts give sequence " + std::to_string(i) + " " + std::to_string(count) +
                       " rows, and its context has " + std::to_string(lens[i]));
        }
    }
}

template <typename T, typename C>
void run_prefill(const Tensors<T, C>& all, const Addresses& addresses, const Array& query_starts, const Array& query_ends,
                 const Array& context_lens, Scores scores, Window window, int num_threads) {
    const auto count = static_cast<std::int64_t>(context_lens.ndim() == 1 ? context_lens.shape(0) : 0);
    const auto* lens = integers<std::int32_t>({"context_lens", context_lens}, {count});
    const auto* starts = integers<std::int32_t>({"query_starts", query_starts}, {count});
    const auto* ends = integers<std::int32_t>({"query_ends", query_ends}, {count});
    check_queries(starts, ends, lens, count, all.query.num_rows);
    const Placement placement = placed(addresses, {count, lens, starts, ends, window}, all.keys.num_rows);
    nb::gil_scoped_release release;
    cache_kernels<T>(all.keys.data).prefill({all.out, all.query, all.keys, all.values, placement, count, starts, ends,
                                             lens, window, scores, num_threads});
}

/// Calls run(tensors) for their element types.
template <typename Run>
void with_tensors(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                  int num_threads, const Run& run) {
    with_types({{"query", query}, {"out", out}}, {{"key_cache", key_cache}, {"value_cache", value_cache}},
               [&](auto type, auto cached) {
                   run(tensors<decltype(type), decltype(cached)>(out, query, key_cache, value_cache, num_threads));
               });
}

}  // namespace

void bind_attention(nb::module_& module) {
    module.def(
        "decode",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache, const Array& where,
           std::optional<std::int64_t> block_size, const std::optional<Array>& first_positions,
           const Array& context_lens, double scale, std::optional<std::int64_t> window, std::int64_t sinks,
           std::optional<double> softcap, const std::optional<Array>& sink_logits, int num_threads) {
            const Addresses addresses = {where, block_size, first_positions};
            with_tensors(out, query, key_cache, value_cache, num_threads, [&](const auto& all) {
                const Scores scores = scores_of(scale, softcap, sink_logits, all.query.num_heads);
                run_decode(all, addresses, context_lens, scores, window_of(window, sinks), num_threads);
            });
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("where").noconvert(), nb::arg("block_size").none(),
        nb::arg("first_positions").noconvert().none(), nb::arg("context_lens").noconvert(), nb::arg("scale"),
        nb::arg("window").none(), nb::arg("sinks"), nb::arg("softcap").none(),
        nb::arg("sink_logits").noconvert().none(), nb::arg("num_threads"));
    module.def(
        "prefill",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache, const Array& where,
           std::optional<std::int64_t> block_size, const std::optional<Array>& first_positions,
           const Array& query_starts, const Array& query_ends, const Array& context_lens, double scale,
           std::optional<std::int64_t> window, std::int64_t sinks, std::optional<double> softcap,
           const std::optional<Array>& sink_logits, int num_threads) {
            const Addresses addresses = {where, block_size, first_positions};
            with_tensors(out, query, key_cache, value_cache, num_threads, [&](const auto& all) {
                const Scores scores = scores_of(scale, softcap, sink_logits, all.query.num_heads);
                run_prefill(all, addresses, query_starts, query_ends, context_lens, scores, window_of(window, sinks),
                            num_threads);
            });
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("where").noconvert(), nb::arg("block_size").none(),
        nb::arg("first_positions").noconvert().none(), nb::arg("query_starts").noconvert(),
        nb::arg("query_ends").noconvert(), nb::arg("context_lens").noconvert(), nb::arg("scale"),
        nb::arg("window").none(), nb::arg("sinks"), nb::arg("softcap").none(),
        nb::arg("sink_logits").noconvert().none(), nb::arg("num_threads"));
}

}  // namespace pagedbench
