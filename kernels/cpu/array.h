// A Python tensor in C++. torch gives its tensors' addresses through a table of C functions (DLPack's exchange
// API) in a twentieth of the time of a call of `__dlpack__`: a step makes about a hundred calls with about five
// tensors each.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <memory>

namespace pagedbench {

/// Borrowed for the duration of a call.
class Array {
  public:
    using Tensor = nanobind::dlpack::dltensor;
    using Type = nanobind::dlpack::dtype;

    Array() = default;
    explicit Array(const Tensor& tensor) : tensor_(tensor) {}

    std::size_t ndim() const { return static_cast<std::size_t>(tensor_.ndim); }
    std::int64_t shape(std::size_t dimension) const { return tensor_.shape[dimension]; }
    std::int64_t stride(std::size_t dimension) const { return tensor_.strides[dimension]; }
    Type dtype() const { return tensor_.dtype; }
    std::int32_t device_type() const { return tensor_.device.device_type; }
    void* data() const { return static_cast<char*>(tensor_.data) + tensor_.byte_offset; }

    std::size_t num_bytes() const {
        std::size_t bytes = dtype().bits / 8;
        for (std::size_t i = 0; i < ndim(); ++i) bytes *= static_cast<std::size_t>(shape(i));
        return bytes;
    }

  private:
    Tensor tensor_ = {};
};

/// Fills in the addresses of a tensor without taking a share in it; 0 on success.
using BorrowTensor = int (*)(void* object, Array::Tensor* out);

/// The function for a type's objects; null if the type has none.
BorrowTensor borrow_function(PyTypeObject* type);

}  // namespace pagedbench

namespace nanobind::detail {

template <>
struct type_caster<pagedbench::Array> {
    NB_TYPE_CASTER(pagedbench::Array, const_name("tensor"))

    bool from_python(handle source, std::uint8_t, cleanup_list*) noexcept {
        const pagedbench::BorrowTensor borrow = pagedbench::borrow_function(Py_TYPE(source.ptr()));
        pagedbench::Array::Tensor tensor = {};
        if (!borrow) return false;
        if (borrow(source.ptr(), &tensor) != 0) {
            PyErr_Clear();
            return false;
        }
        value = pagedbench::Array(tensor);
        return true;
    }

    static handle from_cpp(const pagedbench::Array&, rv_policy, cleanup_list*) = delete;
};

}  // namespace nanobind::detail
