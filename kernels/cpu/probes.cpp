// The limits of the machine: reading memory, and multiply-adds on registers. Python measures the time.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "bindings.h"
#include "packed.h"
#include "threads.h"

#if defined(PAGEDBENCH_X86)
#include <immintrin.h>
#endif

namespace nb = nanobind;

namespace pagedbench {
namespace {

constexpr std::size_t LINE_BYTES = 64;
// Sums that do not depend on each other: at least latency times throughput of the FMA units, which is
// 4 cycles times 2 per cycle, and at most as many as fit the 32 or 16 vector registers with two factors.
constexpr int NUM_CHAINS = 16, NUM_CHAINS_OF_16 = 12;

using Line = std::uint64_t __attribute__((vector_size(LINE_BYTES), may_alias));

/// Sums `NUM_STREAMS` equal parts of the lines, one line of each in turn. The sum keeps the loads alive.
template <int NUM_STREAMS>
[[gnu::always_inline]] inline std::uint64_t sum_lines(const Line* lines, std::size_t num_lines) {
    const std::size_t part = num_lines / NUM_STREAMS;
    Line sums[NUM_STREAMS] = {};
    for (std::size_t i = 0; i < part; ++i) {
        for (int stream = 0; stream < NUM_STREAMS; ++stream) sums[stream] += lines[stream * part + i];
    }
    Line total = {};
    for (const Line& sum : sums) total += sum;
    std::uint64_t folded = 0;
    for (std::size_t i = 0; i < LINE_BYTES / sizeof folded; ++i) folded += total[i];
    return folded;
}

[[gnu::always_inline]] inline std::uint64_t sum_streams(const Line* lines, std::size_t num_lines, int num_streams) {
    if (num_streams == 1) return sum_lines<1>(lines, num_lines);
    if (num_streams == 4) return sum_lines<4>(lines, num_lines);
    return sum_lines<8>(lines, num_lines);
}

using SumStreams = std::uint64_t (*)(const Line*, std::size_t, int);
using MultiplyAdd = double (*)(std::int64_t);

struct MultiplyAddKernel {
    MultiplyAdd run;
    std::int64_t flops;  // of one step of all chains
};

std::uint64_t sum_portable(const Line* lines, std::size_t num_lines, int num_streams) {
    return sum_streams(lines, num_lines, num_streams);
}

using FourFloats = float __attribute__((vector_size(16)));

/// Vectors that every current CPU has; the compiler fuses multiplication and addition if it may.
double multiply_add_portable(std::int64_t num_steps) {
    const volatile float half = 0.5f;  // so that the compiler computes nothing beforehand
    const FourFloats factor = {half, half, half, half}, term = factor + factor;
    FourFloats sums[NUM_CHAINS_OF_16] = {};
    for (std::int64_t step = 0; step < num_steps; ++step) {
        for (FourFloats& sum : sums) sum = sum * factor + term;
    }
    double total = 0;
    for (const FourFloats& sum : sums) total += sum[0];
    return total;
}

#if defined(PAGEDBENCH_X86)

__attribute__((target("avx2"))) std::uint64_t sum_avx2(const Line* lines, std::size_t num_lines, int num_streams) {
    return sum_streams(lines, num_lines, num_streams);
}

__attribute__((target("avx512f"))) std::uint64_t sum_avx512(const Line* lines, std::size_t num_lines,
                                                            int num_streams) {
    return sum_streams(lines, num_lines, num_streams);
}

__attribute__((target("avx2,fma"))) double multiply_add_avx2(std::int64_t num_steps) {
    const __m256 factor = _mm256_set1_ps(0.5f), term = _mm256_set1_ps(1.0f);
    __m256 sums[NUM_CHAINS_OF_16];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    for (std::int64_t step = 0; step < num_steps; ++step) {
        for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, factor, term);
    }
    double total = 0;
    for (const __m256& sum : sums) total += _mm256_cvtss_f32(sum);
    return total;
}

__attribute__((target("avx512f"))) double multiply_add_avx512(std::int64_t num_steps) {
    const __m512 factor = _mm512_set1_ps(0.5f), term = _mm512_set1_ps(1.0f);
    __m512 sums[NUM_CHAINS];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (std::int64_t step = 0; step < num_steps; ++step) {
        for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, factor, term);
    }
    double total = 0;
    for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
    return total;
}

__attribute__((target("avx512f,avx512bf16"))) double multiply_add_bfloat16(std::int64_t num_steps) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512bh factor = _mm512_cvtne2ps_pbh(one, one);
    __m512 sums[NUM_CHAINS];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    for (std::int64_t step = 0; step < num_steps; ++step) {
        for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, factor, factor);
    }
    double total = 0;
    for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
    return total;
}

#endif

SumStreams sum_of_this_cpu() {
#if defined(PAGEDBENCH_X86)
    if (__builtin_cpu_supports("avx512f")) return sum_avx512;
    if (__builtin_cpu_supports("avx2")) return sum_avx2;
#endif
    return sum_portable;
}

MultiplyAddKernel float32_of_this_cpu() {
#if defined(PAGEDBENCH_X86)
    if (__builtin_cpu_supports("avx512f")) return {multiply_add_avx512, NUM_CHAINS * 16 * 2};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {multiply_add_avx2, NUM_CHAINS_OF_16 * 8 * 2};
#endif
    return {multiply_add_portable, NUM_CHAINS_OF_16 * 4 * 2};
}

std::optional<MultiplyAddKernel> bfloat16_of_this_cpu() {
#if defined(PAGEDBENCH_X86)
    if (__builtin_cpu_supports("avx512bf16")) return MultiplyAddKernel{multiply_add_bfloat16, NUM_CHAINS * 32 * 2};
#endif
    return std::nullopt;
}

/// Every thread makes `num_steps` steps. Returns the FLOPs of all threads.
std::int64_t multiply_add(const MultiplyAddKernel& kernel, std::int64_t num_steps, int num_threads) {
    std::vector<double> totals(num_threads);
    share_out(num_threads, num_threads, [&](std::int64_t part, int) { totals[part] = kernel.run(num_steps); });
    const volatile double keep = std::accumulate(totals.begin(), totals.end(), 0.0);
    (void)keep;
    return num_steps * kernel.flops * num_threads;
}

/// Memory to be read from end to end: that of packed weights if there is enough of them, which takes none anew;
/// else memory of its own, on huge pages if the system has them, whose word i holds i.
class ReadProbe {
  public:
    ReadProbe(std::size_t num_bytes, int num_threads, const nb::list& weights) {
        for (nb::handle weight : weights) {
            if (num_bytes_ < num_bytes) add(nb::cast<const Linear&>(weight).panels());
        }
        if (num_bytes_ >= num_bytes) {
            weights_ = weights;
        } else {
            own_ = Pages(std::max(num_bytes / HUGE_PAGE, std::size_t{1}) * HUGE_PAGE);
            pieces_.clear(), num_bytes_ = 0;
            add(own_);
            fill(num_threads);
        }
    }

    std::size_t num_bytes() const { return num_bytes_; }

    /// Reads everything once, each thread its part of each piece in `num_streams` streams. Returns the sum.
    std::uint64_t read(int num_streams, int num_threads) const {
        const SumStreams sum = sum_of_this_cpu();
        std::vector<std::uint64_t> totals(num_threads);
        share_out(num_threads, num_threads, [&](std::int64_t part, int) {
            for (const Piece& piece : pieces_) {
                const std::size_t start = piece.num_groups * part / num_threads;
                const std::size_t stop = piece.num_groups * (part + 1) / num_threads;
                totals[part] += sum(piece.lines + start * GROUP, (stop - start) * GROUP, num_streams);
            }
        });
        return std::accumulate(totals.begin(), totals.end(), std::uint64_t{0});
    }

  private:
    static constexpr std::size_t GROUP = 8;  // lines: parts of whole groups suit every number of streams

    struct Piece {
        const Line* lines;
        std::size_t num_groups;
    };

    void add(const Pages& pages) {
        pieces_.push_back({static_cast<const Line*>(pages.data()), pages.num_bytes() / LINE_BYTES / GROUP});
        num_bytes_ += pieces_.back().num_groups * GROUP * LINE_BYTES;
    }

    /// The threads that will read the pages write them first, so that a machine of several sockets spreads them.
    void fill(int num_threads) {
        auto* words = static_cast<std::uint64_t*>(own_.data());
        const std::size_t num_words = num_bytes_ / sizeof *words;
        share_out(num_threads, num_threads, [&](std::int64_t part, int) {
            for (std::size_t i = num_words * part / num_threads; i < num_words * (part + 1) / num_threads; ++i) {
                words[i] = i;
            }
        });
    }

    Pages own_;
    nb::list weights_;  // keeps those that are read
    std::vector<Piece> pieces_;
    std::size_t num_bytes_ = 0;
};

}  // namespace

void bind_probes(nb::module_& module) {
#if defined(PAGEDBENCH_X86)
    __builtin_cpu_init();
#endif
    nb::class_<ReadProbe>(module, "ReadProbe")
        .def("__init__", [](ReadProbe* probe, std::size_t num_bytes, int num_threads, const nb::list& weights) {
                if (num_threads < 1) throw nb::value_error("num_threads must be at least 1");
                new (probe) ReadProbe(num_bytes, num_threads, weights);
            },
            nb::arg("num_bytes"), nb::arg("num_threads"), nb::arg("weights"))
        .def_prop_ro("num_bytes", &ReadProbe::num_bytes)
        .def("read", [](const ReadProbe& probe, int num_streams, int num_threads) {
                if (num_streams != 1 && num_streams != 4 && num_streams != 8) {
                    throw nb::value_error("num_streams must be 1, 4 or 8");
                }
                if (num_threads < 1) throw nb::value_error("num_threads must be at least 1");
                nb::gil_scoped_release release;
                return probe.read(num_streams, num_threads);
            },
            nb::arg("num_streams"), nb::arg("num_threads"));
    module.def("multiply_add", [](bool is_bfloat16, std::int64_t num_steps, int num_threads) -> std::optional<std::int64_t> {
            if (num_steps < 1 || num_threads < 1) throw nb::value_error("num_steps and num_threads must be at least 1");
            const auto kernel = is_bfloat16 ? bfloat16_of_this_cpu() : std::optional(float32_of_this_cpu());
            if (!kernel) return std::nullopt;
            nb::gil_scoped_release release;
            return multiply_add(*kernel, num_steps, num_threads);
        },
        nb::arg("is_bfloat16"), nb::arg("num_steps"), nb::arg("num_threads"));
}

}  // namespace pagedbench
