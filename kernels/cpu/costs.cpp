// The module pagedbench.kernels._costs: the cost model's inner loop. It is small, because a simulated run loads no kernels.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace nb = nanobind;

namespace {

/// See `DecodeTimes.series` in pagedbench/simulation/kernel_times.py: the same operations in the same order, so that every
/// bit is the same. A term that is the longest is 1, because a number divided by itself, and any power of 1, is exactly 1.
nb::object decode_times(std::int64_t num_sequences, double width, double kv_share, double kv_heads, double rows, double bandwidth,
                        double computing, double pair, double heads, bool is_grouped, double waves, double launch, double join,
                        double most_alone, double s, double inverse, double factor, double rest, std::int64_t first,
                        std::int64_t number) {
    nb::list times;
    for (std::int64_t i = 0; i < number; ++i) {
        const double keys = static_cast<double>(first + i * num_sequences);
        const double reading = width * (keys * kv_share * kv_heads + rows) / bandwidth;
        const double together = computing + pair * keys * heads;
        const double alone = is_grouped ? 0.0 : waves * keys / static_cast<double>(num_sequences);
        const double longest = std::max({reading, together, alone});
        const auto term = [&](double time) { return time == longest ? 1.0 : std::pow(time / longest, s); };
        double total = term(reading) + term(together);
        if (!is_grouped) total += term(alone);
        const double start = keys > most_alone ? launch + join : launch;
        times.append(factor * (start + longest * std::pow(total, inverse)) + rest);
    }
    return times;
}

}  // namespace

NB_MODULE(_costs, module) {
    nanobind::set_leak_warnings(false);  // the command ends without searching for garbage
    module.def("decode_times", decode_times);
}
