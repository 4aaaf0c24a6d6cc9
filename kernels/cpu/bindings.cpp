// The module pagedbench.kernels._cpu.
#include "bindings.h"

NB_MODULE(_cpu, module) {
    nanobind::set_leak_warnings(false);  // the command ends without searching for garbage
    module.doc() = "Native CPU kernels over a slot-addressed KV cache; called through pagedbench.ops.native.";
    module.def("instruction_set", [] { return pagedbench::instruction_set().name; });
    pagedbench::bind_attention(module);
    pagedbench::bind_draws(module);
    pagedbench::bind_linear(module);
    pagedbench::bind_layers(module);
    pagedbench::bind_memory(module);
    pagedbench::bind_probes(module);
    pagedbench::bind_tokens(module);
}
