// The class Linear: a packed weight, and the products with it.
#include "bindings.h"
#include "packed.h"

namespace nb = nanobind;

namespace pagedbench {

void bind_linear(nb::module_& module) {
    nb::class_<Linear>(module, "Linear")
        .def(nb::init<const Array&, const std::optional<Array>&, const std::string&, int>(),
             nb::arg("weight").noconvert(), nb::arg("bias").noconvert().none(), nb::arg("activation"),
             nb::arg("num_threads"))
        .def_prop_ro("out_features", &Linear::out_features)
        .def_prop_ro("num_bytes", &Linear::num_bytes)
        .def_prop_ro("num_screened", &Linear::num_screened, "Calls of argmax that a copy in 8 bits has answered.")
        .def("product", &Linear::product, nb::arg("x").noconvert(), nb::arg("out").noconvert(), nb::arg("num_threads"))
        .def("argmax", &Linear::argmax, nb::arg("x").noconvert(), nb::arg("out").noconvert(), nb::arg("num_threads"));
}

}  // namespace pagedbench
