// Random elements of a table, as numpy draws them.
#include "bindings.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

/// C. Doty-Humphrey's sfc64, as numpy's `SFC64` continues from this state.
struct Generator {
    std::uint64_t a, b, c, counter;

    std::uint64_t next() {
        const std::uint64_t number = a + b + counter++;
        a = b ^ (b >> 11);
        b = c + (c << 3);
        c = ((c << 24) | (c >> 40)) + number;
        return number;
    }
};

/// Each number of 64 bits chooses four elements, its lowest 16 bits the first.
template <typename Bits>
void draw_elements(Generator generator, const void* table, void* out, std::int64_t count) {
    const auto* from = static_cast<const Bits*>(table);
    auto* to = static_cast<Bits*>(out);
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const std::uint64_t number = generator.next();
        for (int j = 0; j < 4; ++j) to[i + j] = from[number >> 16 * j & 0xFFFF];
    }
    if (i == count) return;
    for (std::uint64_t number = generator.next(); i < count; ++i, number >>= 16) to[i] = from[number & 0xFFFF];
}

/// `out`: [num_elements], `table`: [65536], of one type.
void draw(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t counter, const Array& table, const Array& out) {
    for (const Named& named : {Named{"table", table}, Named{"out", out}}) {
        check_device(named);
        if (named.array.ndim() != 1 || (named.array.shape(0) > 1 && named.array.stride(0) != 1)) {
            fail_value(std::string(named.name) + " must be contiguous, of one dimension");
        }
    }
    if (table.shape(0) != 1 << 16) fail_value("table must have 65536 elements");
    if (!(table.dtype() == out.dtype())) fail_type("table and out must have one dtype");
    const int bits = table.dtype().bits;
    if (bits != 16 && bits != 32) fail_type("elements must have 16 or 32 bits");
    nb::gil_scoped_release release;
    const auto draw = bits == 16 ? draw_elements<std::uint16_t> : draw_elements<std::uint32_t>;
    draw({a, b, c, counter}, table.data(), out.data(), out.shape(0));
}

}  // namespace

void bind_draws(nb::module_& module) {
    module.def("draw", draw, nb::arg("a"), nb::arg("b"), nb::arg("c"), nb::arg("counter"), nb::arg("table").noconvert(),
               nb::arg("out").noconvert());
}

}  // namespace pagedbench
