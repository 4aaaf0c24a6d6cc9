// Finds the exchange API of a tensor type: https://dmlc.github.io/dlpack/latest/, DLPackExchangeAPI.
#include "array.h"

namespace pagedbench {
namespace {

struct Header {
    std::uint32_t major, minor;
    Header* previous;
};

constexpr std::uint32_t MAJOR = 1;  // the version whose table this file knows

struct ExchangeTable {
    Header header;
    void* allocate;
    void* from_object;
    void* to_object;
    BorrowTensor borrow;
    void* current_stream;
};

BorrowTensor look_up(PyTypeObject* type) {
    PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
    if (!capsule) {
        PyErr_Clear();
        return nullptr;
    }
    auto* header = static_cast<Header*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_DECREF(capsule);  // the type keeps it
    if (!header) PyErr_Clear();
    while (header && header->major != MAJOR) header = header->previous;
    return header ? reinterpret_cast<ExchangeTable*>(header)->borrow : nullptr;
}

}  // namespace

BorrowTensor borrow_function(PyTypeObject* type) {
    // In practice types live as long as the process, so a type that was seen stays valid.
    static PyTypeObject* last_type = nullptr;
    static BorrowTensor last = nullptr;
    if (type != last_type) {
        last = look_up(type);
        last_type = type;
    }
    return last;
}

}  // namespace pagedbench
