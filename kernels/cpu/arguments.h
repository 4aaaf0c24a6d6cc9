// Shared by the bindings: checks of Python's arguments. A wrong address must be an error, because the kernel
// would read whatever is there.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "array.h"
#include "kernels.h"

namespace pagedbench {

struct Named {
    const char* name;
    const Array& array;
};

[[noreturn]] inline void fail_value(const std::string& sentence) { throw nanobind::value_error(sentence.c_str()); }
[[noreturn]] inline void fail_type(const std::string& sentence) { throw nanobind::type_error(sentence.c_str()); }

inline bool is_dtype(const Array& array, nanobind::dlpack::dtype_code code, int bits) {
    return array.dtype() ==
           nanobind::dlpack::dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
}

inline bool is_float32(const Array& array) { return is_dtype(array, nanobind::dlpack::dtype_code::Float, 32); }
inline bool is_int8(const Array& array) { return is_dtype(array, nanobind::dlpack::dtype_code::Int, 8); }
inline bool is_bfloat16(const Array& array) { return is_dtype(array, nanobind::dlpack::dtype_code::Bfloat, 16); }

inline void check_device(const Named& named) {
    if (named.array.device_type() != nanobind::device::cpu::value) {
        fail_type(std::string(named.name) + " must be a CPU tensor for the native kernels");
    }
}

inline void check_threads(int num_threads) {
    if (num_threads < 1) fail_value("num_threads must be at least 1");
}

/// All must have the first one's element type, which the kernels can store.
inline void check_storage(std::initializer_list<Named> all) {
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

/// Calls run(T{}, C{}) for the element types of `all` and of the caches: the same one, or int8.
template <typename Run>
void with_types(std::initializer_list<Named> all, std::initializer_list<Named> caches, const Run& run) {
    const Named& first = *caches.begin();
    const bool is_quantized = is_int8(first.array);
    if (is_quantized) check_storage(all);
    for (const Named& named : caches) {
        check_device(named);
        if (is_int8(named.array) != is_quantized) fail_type(std::string(named.name) + " must have the dtype of " + first.name);
        if (!is_quantized) check_storage({first, named});
    }
    for (const Named& named : all) {
        if (!is_quantized) check_storage({first, named});
    }
    const bool is_wide = is_float32(all.begin()->array);
    if (is_quantized) return is_wide ? run(float{}, std::int8_t{}) : run(bfloat16{}, std::int8_t{});
    is_wide ? run(float{}, float{}) : run(bfloat16{}, bfloat16{});
}

/// A cached head has head_dim elements, followed by a scale if they are int8.
template <typename C>
void check_head_dim(bool is_alike, const char* sentence, std::int64_t head_dim, std::int64_t cached_len) {
    if (is_alike && cached_len == head_dim + SCALE_LEN<C>) return;
    fail_value(std::string(sentence) + (SCALE_LEN<C> ? ", and the cache 4 more elements for the scale" : ""));
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

template <typename T>
Matrix<T> matrix(const Named& named) {
    const Array& array = named.array;
    if (array.ndim() != 2) fail_value(std::string(named.name) + " must have two dimensions");
    const auto num_rows = static_cast<std::int64_t>(array.shape(0));
    const auto num_columns = static_cast<std::int64_t>(array.shape(1));
    if (num_columns == 0) fail_value(std::string(named.name) + " must have columns");
    if (num_columns > 1 && array.stride(1) != 1) fail_value("the rows of " + std::string(named.name) + " must be contiguous");
    return {static_cast<T*>(array.data()), num_rows, num_columns, array.stride(0)};
}

/// A contiguous array of elements of the type E, of the given shape.
template <typename E>
const E* elements(const Named& named, std::initializer_list<std::int64_t> shape, nanobind::dlpack::dtype_code code,
                  const char* type) {
    const Array& array = named.array;
    check_device(named);
    if (!is_dtype(array, code, 8 * sizeof(E))) fail_type(std::string(named.name) + " must be " + type);
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
    return static_cast<const E*>(array.data());
}

template <typename I>
const I* integers(const Named& named, std::initializer_list<std::int64_t> shape) {
    return elements<I>(named, shape, nanobind::dlpack::dtype_code::Int, sizeof(I) == 4 ? "int32" : "int64");
}

inline const float* floats(const Named& named, std::initializer_list<std::int64_t> shape) {
    return elements<float>(named, shape, nanobind::dlpack::dtype_code::Float, "float32");
}

}  // namespace pagedbench
