// Bindings of attention, for new tokens and for prompts, over blocks and over extents.
#include "addresses.h"
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
