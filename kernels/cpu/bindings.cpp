// The module pagedbench.kernels._cpu: checks what Python hands over, then lets go of the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "attend.h"
#include "kernels.h"

namespace nb = nanobind;
using namespace pagedbench;

namespace {

using Array = nb::ndarray<>;

struct Named {
    const char* name;
    const Array& array;
};

[[noreturn]] void fail_value(const std::string& sentence) { throw nb::value_error(sentence.c_str()); }
[[noreturn]] void fail_type(const std::string& sentence) { throw nb::type_error(sentence.c_str()); }

bool is_dtype(const Array& array, nb::dlpack::dtype_code code, int bits) {
    return array.dtype() == nb::dlpack::dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
}

bool is_float32(const Array& array) { return is_dtype(array, nb::dlpack::dtype_code::Float, 32); }
bool is_bfloat16(const Array& array) { return is_dtype(array, nb::dlpack::dtype_code::Bfloat, 16); }

void check_device(const Named& named) {
    if (named.array.device_type() != nb::device::cpu::value) {
        fail_type(std::string(named.name) + " must be a CPU tensor for the native kernels");
    }
}

/// All of one element type, which the kernels can store; the first says which.
void check_storage(std::initializer_list<Named> all) {
    const Named& first = *all.begin();
    for (const Named& named : all) {
        check_device(named);
        if (!is_float32(named.array) && !is_bfloat16(named.array)) {
            fail_type(std::string(named.name) + " must be float32 or bfloat16 for the native kernels");
        }
        if (named.array.dtype() != first.array.dtype()) {
            fail_type(std::string(named.name) + " must have the dtype of " + first.name);
        }
    }
}

template <typename T>
Rows<T> rows(const Named& named) {
    const Array& array = named.array;
    if (array.ndim() != 3) fail_value(std::string(named.name) + " must have three dimensions");
    const auto num_rows = static_cast<std::int64_t>(array.shape(0));
    const auto num_heads = static_cast<std::int64_t>(array.shape(1));
    const auto head_dim = static_cast<std::int64_t>(array.shape(2));
    if (num_heads == 0 || head_dim == 0) fail_value(std::string(named.name) + " must have heads that are not empty");
    if ((head_dim > 1 && array.stride(2) != 1) || (num_heads > 1 && array.stride(1) != head_dim)) {
        fail_value("the heads of a token must be contiguous in " + std::string(named.name));
    }
    return {static_cast<T*>(array.data()), num_rows, num_heads, head_dim, array.stride(0)};
}

template <typename A, typename B>
bool have_same_shape(const Rows<A>& one, const Rows<B>& other) {
    return one.num_rows == other.num_rows && one.num_heads == other.num_heads && one.head_dim == other.head_dim;
}

/// A contiguous integer array of the given shape.
template <typename I>
const I* integers(const Named& named, std::initializer_list<std::int64_t> shape) {
    const Array& array = named.array;
    check_device(named);
    if (!is_dtype(array, nb::dlpack::dtype_code::Int, 8 * sizeof(I))) {
        fail_type(std::string(named.name) + " must be int" + std::to_string(8 * sizeof(I)));
    }
    bool fits = array.ndim() == shape.size();
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); fits && i-- > 0;) {
        const std::int64_t size = shape.begin()[i];
        fits = static_cast<std::int64_t>(array.shape(i)) == size && (size <= 1 || array.stride(i) == stride);
        stride *= size;
    }
    if (!fits) {
        std::string sizes;
        for (const std::int64_t size : shape) sizes += (sizes.empty() ? "" : ", ") + std::to_string(size);
        fail_value(std::string(named.name) + " must be contiguous, of shape [" + sizes + "]");
    }
    return static_cast<const I*>(array.data());
}

template <typename T>
Decode<T> decode_arguments(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                           const Array& context_lens, double scale, int num_threads) {
    const auto from = rows<const T>({"query", query});
    const auto keys = rows<const T>({"key_cache", key_cache});
    const auto values = rows<const T>({"value_cache", value_cache});
    const auto to = rows<T>({"out", out});
    if (!have_same_shape(to, from)) fail_value("out must have the shape of query");
    if (!have_same_shape(keys, values)) fail_value("key_cache and value_cache must have the same shape");
    if (keys.head_dim != from.head_dim) fail_value("query and key_cache must have the same head_dim");
    if (from.num_heads % keys.num_heads != 0) {
        fail_value("the number of query heads must be a multiple of the number of KV heads");
    }
    if (num_threads < 1) fail_value("num_threads must be at least 1");
    const auto* lens = integers<std::int32_t>({"context_lens", context_lens}, {from.num_rows});
    return {to, from, keys, values, lens, static_cast<float>(scale), num_threads};
}

template <typename T>
void run_write_kv(const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
                  const Array& slots, int num_threads) {
    const auto from_key = rows<const T>({"key", key}), from_value = rows<const T>({"value", value});
    const auto to_key = rows<T>({"key_cache", key_cache}), to_value = rows<T>({"value_cache", value_cache});
    if (!have_same_shape(from_key, from_value)) fail_value("key and value must have the same shape");
    if (!have_same_shape(to_key, to_value)) fail_value("key_cache and value_cache must have the same shape");
    if (to_key.num_heads != from_key.num_heads || to_key.head_dim != from_key.head_dim) {
        fail_value("key and key_cache must have the same number of heads and head_dim");
    }
    if (num_threads < 1) fail_value("num_threads must be at least 1");
    const auto* targets = integers<std::int64_t>({"slots", slots}, {from_key.num_rows});
    for (std::int64_t i = 0; i < from_key.num_rows; ++i) {
        if (targets[i] < -1 || targets[i] >= to_key.num_rows) {
            fail_value("slot " + std::to_string(targets[i]) + " lies outside the cache, which has " +
                       std::to_string(to_key.num_rows) + " slots");
        }
    }
    nb::gil_scoped_release release;
    write_kv<T>(from_key, from_value, to_key, to_value, targets, num_threads);
}

/// An address outside the cache must be an error: the kernel would read whatever lies there.
template <typename T>
void check_blocks(const Decode<T>& decode, const std::int32_t* tables, std::int64_t max_blocks,
                  std::int64_t block_size) {
    const std::int64_t num_blocks = decode.keys.num_rows / block_size;
    for (std::int64_t i = 0; i < decode.query.num_rows; ++i) {
        const std::int64_t used = (decode.context_lens[i] + block_size - 1) / block_size;
        if (decode.context_lens[i] < 0 || used > max_blocks) {
            fail_value("context_lens[" + std::to_string(i) + "] is " + std::to_string(decode.context_lens[i]) +
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
}

template <typename T>
void run_paged_decode(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                      const Array& block_tables, const Array& context_lens, std::int64_t block_size, double scale,
                      int num_threads) {
    const auto decode =
        decode_arguments<T>(out, query, key_cache, value_cache, context_lens, scale, num_threads);
    if (block_size < 1) fail_value("block_size must be at least 1");
    if (block_tables.ndim() != 2) fail_value("block_tables must have two dimensions");
    const auto max_blocks = static_cast<std::int64_t>(block_tables.shape(1));
    const auto* tables = integers<std::int32_t>({"block_tables", block_tables}, {decode.query.num_rows, max_blocks});
    check_blocks(decode, tables, max_blocks, block_size);
    nb::gil_scoped_release release;
    paged_decode<T>(decode, tables, max_blocks, block_size);
}

template <typename T>
void run_contiguous_decode(const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
                           const Array& extent_starts, const Array& context_lens, double scale, int num_threads) {
    const auto decode =
        decode_arguments<T>(out, query, key_cache, value_cache, context_lens, scale, num_threads);
    const auto* starts = integers<std::int64_t>({"extent_starts", extent_starts}, {decode.query.num_rows});
    for (std::int64_t i = 0; i < decode.query.num_rows; ++i) {
        if (decode.context_lens[i] < 0 || starts[i] < 0 || starts[i] > decode.keys.num_rows - decode.context_lens[i]) {
            fail_value("the extent of sequence " + std::to_string(i) + " lies outside the cache, which has " +
                       std::to_string(decode.keys.num_rows) + " slots");
        }
    }
    nb::gil_scoped_release release;
    contiguous_decode<T>(decode, starts);
}

}  // namespace

NB_MODULE(_cpu, module) {
    module.doc() = "Native CPU kernels over a slot-addressed KV cache; called through pagedbench.ops.native.";
    module.def("instruction_set", [] { return instruction_set().name; });
    module.def(
        "write_kv",
        [](const Array& key, const Array& value, const Array& key_cache, const Array& value_cache,
           const Array& slots, int num_threads) {
            check_storage({{"key_cache", key_cache}, {"value_cache", value_cache}, {"key", key}, {"value", value}});
            const auto run = is_float32(key) ? run_write_kv<float> : run_write_kv<bfloat16>;
            run(key, value, key_cache, value_cache, slots, num_threads);
        },
        nb::arg("key").noconvert(), nb::arg("value").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("slots").noconvert(), nb::arg("num_threads"));
    module.def(
        "paged_decode",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
           const Array& block_tables, const Array& context_lens, std::int64_t block_size, double scale,
           int num_threads) {
            check_storage(
                {{"key_cache", key_cache}, {"value_cache", value_cache}, {"query", query}, {"out", out}});
            const auto run = is_float32(query) ? run_paged_decode<float> : run_paged_decode<bfloat16>;
            run(out, query, key_cache, value_cache, block_tables, context_lens, block_size, scale, num_threads);
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("block_tables").noconvert(),
        nb::arg("context_lens").noconvert(), nb::arg("block_size"), nb::arg("scale"), nb::arg("num_threads"));
    module.def(
        "contiguous_decode",
        [](const Array& out, const Array& query, const Array& key_cache, const Array& value_cache,
           const Array& extent_starts, const Array& context_lens, double scale, int num_threads) {
            check_storage(
                {{"key_cache", key_cache}, {"value_cache", value_cache}, {"query", query}, {"out", out}});
            const auto run = is_float32(query) ? run_contiguous_decode<float> : run_contiguous_decode<bfloat16>;
            run(out, query, key_cache, value_cache, extent_starts, context_lens, scale, num_threads);
        },
        nb::arg("out").noconvert(), nb::arg("query").noconvert(), nb::arg("key_cache").noconvert(),
        nb::arg("value_cache").noconvert(), nb::arg("extent_starts").noconvert(),
        nb::arg("context_lens").noconvert(), nb::arg("scale"), nb::arg("num_threads"));
}
