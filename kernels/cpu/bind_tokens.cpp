// Bindings of operations on one token at a time.
#include "addresses.h"
#include "bindings.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

template <typename T, typename C>
Write<T, C> write_arguments(const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
                         const Array& slots, int num_threads) {
    Write<T, C> write = {rows<T>({"key", key}),
                         rows<const T>({"value", value}),
                         rows<C>({"key_cache", key_cache}),
                         rows<C>({"value_cache", value_cache}),
                         nullptr,
                         num_threads};
    if (!have_same_shape(write.key, write.value)) fail_value("key and value must have the same shape");
    if (!have_same_shape(write.key_cache, write.value_cache)) {
        fail_value("key_cache and value_cache must have the same shape");
    }
    check_head_dim<C>(write.key_cache.num_heads == write.key.num_heads,
                      "key and key_cache must have the same number of heads and head_dim", write.key.head_dim,
                      write.key_cache.head_dim);
    check_threads(num_threads);
    write.slots = slots_of(slots, write.key.num_rows, write.key_cache.num_rows);
    return write;
}

template <typename T, typename C>
void run_write_kv(const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
                  const Array& slots, int num_threads) {
    const Write<T, C> write = write_arguments<T, C>(key, value, key_cache, value_cache, slots, num_threads);
    nb::gil_scoped_release release;
    cache_kernels<T>(write.key_cache.data).write_kv(write);
}

template <typename T, typename C>
void run_rotate_and_write_kv(const Array& query, const Array& key, const Array& value, const Array& key_cache,
                             const Array& value_cache, const Array& slots, const Array& cosine, const Array& sine,
                             int num_threads) {
    const Write<T, C> write = write_arguments<T, C>(key, value, key_cache, value_cache, slots, num_threads);
    const std::int64_t num_tokens = write.key.num_rows, half = write.key.head_dim / 2;
    const Rotation<T> rotation = {rows<T>({"query", query}), floats({"cosine", cosine}, {num_tokens, half}),
                                  floats({"sine", sine}, {num_tokens, half})};
    if (write.key.head_dim % 2) fail_value("a rotary embedding needs an even head_dim");
    if (rotation.query.num_rows != num_tokens || rotation.query.head_dim != write.key.head_dim) {
        fail_value("query and key must have the same number of tokens and head_dim");
    }
    nb::gil_scoped_release release;
    cache_kernels<T>(write.key_cache.data).rotate_and_write_kv(write, rotation);
}

template <typename T>
const T* vector_of(const char* name, const std::optional<Array>& array, std::int64_t size) {
    if (!array) return nullptr;
    if (array->ndim() != 1 || static_cast<std::int64_t>(array->shape(0)) != size || (size > 1 && array->stride(0) != 1)) {
        fail_value(std::string(name) + " must be contiguous, of shape [" + std::to_string(size) + "]");
    }
    return static_cast<const T*>(array->data());
}

template <typename T>
void run_norm(const Array& out, const Array& hidden, const std::optional<Array>& delta,
              const std::optional<Array>& weight, const std::optional<Array>& bias, double epsilon, bool is_centred,
              int num_threads) {
    const auto to = matrix<T>({"out", out}), from = matrix<T>({"hidden", hidden});
    if (to.num_rows != from.num_rows || to.num_columns != from.num_columns) fail_value("out must have the shape of hidden");
    Matrix<const T> added = {};
    if (delta) {
        added = matrix<const T>({"delta", *delta});
        if (added.num_rows != from.num_rows || added.num_columns != from.num_columns) {
            fail_value("delta must have the shape of hidden");
        }
    }
    check_threads(num_threads);
    const auto* scales = vector_of<T>("weight", weight, from.num_columns);
    const auto* biases = vector_of<T>("bias", bias, from.num_columns);
    nb::gil_scoped_release release;
    kernels<T>().norm({to, from, delta ? &added : nullptr, scales, biases, static_cast<float>(epsilon), is_centred,
                       num_threads});
}

/// Optional arrays that exist must have the dtype of `first`.
void check_optional(const Named& first, std::initializer_list<std::pair<const char*, const std::optional<Array>&>> all) {
    for (const auto& [name, array] : all) {
        if (array) check_storage({first, {name, *array}});
    }
}

}  // namespace

void bind_tokens(nb::module_& module) {
    module.def(
        "write_kv",
        [](const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
           const Array& slots, int num_threads) {
            with_types({{"key", key}, {"value", value}}, {{"key_cache", key_cache}, {"value_cache", value_cache}},
                       [&](auto type, auto cached) {
                           run_write_kv<decltype(type), decltype(cached)>(key, value, key_cache, value_cache, slots,
                                                                          num_threads);
                       });
        },
        nb::arg("key").noconvert(), nb::arg("value").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("slots").noconvert(), nb::arg("num_threads"));
    module.def(
        "rotate_and_write_kv",
        [](const Array& query, const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
           const Array& slots, const Array& cosine, const Array& sine, int num_threads) {
            with_types({{"key", key}, {"value", value}, {"query", query}},
                       {{"key_cache", key_cache}, {"value_cache", value_cache}}, [&](auto type, auto cached) {
                           run_rotate_and_write_kv<decltype(type), decltype(cached)>(
                               query, key, value, key_cache, value_cache, slots, cosine, sine, num_threads);
                       });
        },
        nb::arg("query").noconvert(), nb::arg("key").noconvert(), nb::arg("value").noconvert(),
        nb::arg("key_cache").noconvert(), nb::arg("value_cache").noconvert(), nb::arg("slots").noconvert(),
        nb::arg("cosine").noconvert(), nb::arg("sine").noconvert(), nb::arg("num_threads"));
    module.def(
        "norm",
        [](const Array& out, const Array& hidden, const std::optional<Array>& delta, const std::optional<Array>& weight,
           const std::optional<Array>& bias, double epsilon, bool is_centred, int num_threads) {
            check_storage({{"hidden", hidden}, {"out", out}});
            check_optional({"hidden", hidden}, {{"delta", delta}, {"weight", weight}, {"bias", bias}});
            const auto run = is_float32(hidden) ? run_norm<float> : run_norm<bfloat16>;
            run(out, hidden, delta, weight, bias, epsilon, is_centred, num_threads);
        },
        nb::arg("out").noconvert(), nb::arg("hidden").noconvert(), nb::arg("delta").noconvert().none(),
        nb::arg("weight").noconvert().none(), nb::arg("bias").noconvert().none(), nb::arg("epsilon"),
        nb::arg("is_centred"), nb::arg("num_threads"));
}

}  // namespace pagedbench
