// Bindings of attention, for new tokens and for prompts, over blocks and over extents.
#include "bindings.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

template <typename T>
struct Tensors {
    Rows<const T> query;
    Rows<T> out;
    Rows<const T> keys, values;
};

template <typename T>
Tensors<T> tensors(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                   int num_threads) {
    const Tensors<T> all = {rows<const T>({"query", query}), rows<T>({"out", out}),
                            rows<const T>({"key_cache", key_cache}), rows<const T>({"value_cache", value_cache})};
    if (!have_same_shape(all.out, all.query)) fail_value("out must have the shape of query");
    if (!have_same_shape(all.keys, all.values)) fail_value("key_cache and value_cache must have the same shape");
    if (all.keys.head_dim != all.query.head_dim) fail_value("query and key_cache must have the same head_dim");
    if (all.query.num_heads % all.keys.num_heads != 0) {
        fail_value("the number of query heads must be a multiple of the number of KV heads");
    }
    check_threads(num_threads);
    return all;
}

Placement in_blocks(const Array& block_tables, std::int64_t num_sequences, std::int64_t block_size,
                    const std::int32_t* context_lens, std::int64_t num_slots) {
    if (block_size < 1) fail_value("block_size must be at least 1");
    if (block_tables.ndim() != 2) fail_value("block_tables must have two dimensions");
    const auto max_blocks = static_cast<std::int64_t>(block_tables.shape(1));
    const auto* tables = integers<std::int32_t>({"block_tables", block_tables}, {num_sequences, max_blocks});
    const std::int64_t num_blocks = num_slots / block_size;
    for (std::int64_t i = 0; i < num_sequences; ++i) {
        const std::int64_t used = (context_lens[i] + block_size - 1) / block_size;
        if (context_lens[i] < 0 || used > max_blocks) {
            fail_value("context_lens[" + std::to_string(i) + "] is " + std::to_string(context_lens[i]) +
                       ", which does not fit the block table");
        }
        for (std::int64_t j = 0; j < used; ++j) {
            const std::int32_t block = tables[i * max_blocks + j];
            if (block < 0 || block >= num_blocks) {
                fail_value("block " + std::to_string(block) + " lies outside the cache, which has " +
                           std::to_string(num_blocks) + " blocks");
            }
        }
    }
    return {tables, max_blocks, block_size, nullptr};
}

Placement in_extents(const Array& extent_starts, std::int64_t num_sequences, const std::int32_t* context_lens,
                     std::int64_t num_slots) {
    const auto* starts = integers<std::int64_t>({"extent_starts", extent_starts}, {num_sequences});
    for (std::int64_t i = 0; i < num_sequences; ++i) {
        if (context_lens[i] < 0 || starts[i] < 0 || starts[i] > num_slots - context_lens[i]) {
            fail_value("the extent of sequence " + std::to_string(i) + " lies outside the cache, which has " +
                       std::to_string(num_slots) + " slots");
        }
    }
    return {nullptr, 0, 0, starts};
}

/// Block tables where there is a block size, else extents.
Placement placed(const Array& where, std::int64_t num_sequences, std::optional<std::int64_t> block_size,
                 const std::int32_t* context_lens, std::int64_t num_slots) {
    if (block_size) return in_blocks(where, num_sequences, *block_size, context_lens, num_slots);
    return in_extents(where, num_sequences, context_lens, num_slots);
}

template <typename T>
void run_decode(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                const Array& where, const Array& context_lens, std::optional<std::int64_t> block_size, double scale,
                int num_threads) {
    const Tensors<T> all = tensors<T>(out, query, key_cache, value_cache, num_threads);
    const auto* lens = integers<std::int32_t>({"context_lens", context_lens}, {all.query.num_rows});
    const Placement placement = placed(where, all.query.num_rows, block_size, lens, all.keys.num_rows);
    nb::gil_scoped_release release;
    kernels<T>().decode({all.out, all.query, all.keys, all.values, placement, lens, static_cast<float>(scale), num_threads});
}

/// Rows of a sequence follow one another, and are no more than its context.
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

template <typename T>
void run_prefill(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                 const Array& where, const Array& query_starts, const Array& query_ends,
                 const Array& context_lens, std::optional<std::int64_t> block_size, double scale, int num_threads) {
    const Tensors<T> all = tensors<T>(out, query, key_cache, value_cache, num_threads);
    const auto count = static_cast<std::int64_t>(context_lens.ndim() == 1 ? context_lens.shape(0) : 0);
    const auto* lens = integers<std::int32_t>({"context_lens", context_lens}, {count});
    const auto* starts = integers<std::int32_t>({"query_starts", query_starts}, {count});
    const auto* ends = integers<std::int32_t>({"query_ends", query_ends}, {count});
    const Placement placement = placed(where, count, block_size, lens, all.keys.num_rows);
    check_queries(starts, ends, lens, count, all.query.num_rows);
    nb::gil_scoped_release release;
    kernels<T>().prefill({all.out, all.query, all.keys, all.values, placement, count, starts, ends, lens,
                          static_cast<float>(scale), num_threads});
}

}  // namespace

void bind_attention(nb::module_& module) {
    module.def(
        "decode",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache, const Array& where,
           const Array& context_lens, std::optional<std::int64_t> block_size, double scale, int num_threads) {
            check_storage({{"key_cache", key_cache}, {"value_cache", value_cache}, {"query", query}, {"out", out}});
            const auto run = is_float32(query) ? run_decode<float> : run_decode<bfloat16>;
            run(out, query, key_cache, value_cache, where, context_lens, block_size, scale, num_threads);
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("where").noconvert(), nb::arg("context_lens").noconvert(),
        nb::arg("block_size").none(), nb::arg("scale"), nb::arg("num_threads"));
    module.def(
        "prefill",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache, const Array& where,
           const Array& query_starts, const Array& query_ends, const Array& context_lens,
           std::optional<std::int64_t> block_size, double scale, int num_threads) {
            check_storage({{"key_cache", key_cache}, {"value_cache", value_cache}, {"query", query}, {"out", out}});
            const auto run = is_float32(query) ? run_prefill<float> : run_prefill<bfloat16>;
            run(out, query, key_cache, value_cache, where, query_starts, query_ends, context_lens, block_size, scale,
                num_threads);
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("where").noconvert(), nb::arg("query_starts").noconvert(),
        nb::arg("query_ends").noconvert(), nb::arg("context_lens").noconvert(), nb::arg("block_size").none(), nb::arg("scale"), nb::arg("num_threads"));
}

}  // namespace pagedbench
