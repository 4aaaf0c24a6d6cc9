// The parts of the module pagedbench.kernels._cpu; each checks its arguments, then releases the GIL.
#pragma once

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <vector>

#include "arguments.h"

namespace pagedbench {

void bind_attention(nanobind::module_& module);
void bind_draws(nanobind::module_& module);
void bind_layers(nanobind::module_& module);
void bind_linear(nanobind::module_& module);
void bind_memory(nanobind::module_& module);
void bind_probes(nanobind::module_& module);
void bind_tokens(nanobind::module_& module);

}  // namespace pagedbench
