// Every kernel, compiled for one instruction set: CMake builds this file several times, each with its own
// flags and its own PAGEDBENCH_ISA, the namespace that keeps them apart.
#include "decode.h"
#include "linear.h"
#include "prefill.h"
#include "screen.h"
#include "tokens.h"

namespace pagedbench {
namespace PAGEDBENCH_ISA {

template <typename T, typename C>
constexpr CacheKernels<T, C> CACHE_KERNELS = {decode<T, C>, prefill<T, C>, write_kv<T, C>, rotate_and_write_kv<T, C>};

template <typename T>
constexpr ScreenKernels<T> SCREEN_KERNELS = {
#if defined(__AVX512VNNI__)
    screen_size<T>, sizeof(Columns) / LANES, make_screen<T>, screened_argmax<T>
#else
    screen_size<T>, 0, nullptr, nullptr
#endif
};

template <typename T>
constexpr Kernels<T> KERNELS = {CACHE_KERNELS<T, T>, CACHE_KERNELS<T, std::int8_t>, norm<T>,   packed_size<T>,
                                padded_columns<T>,   pack<T>,                       linear<T>, argmax<T>, SCREEN_KERNELS<T>};

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const InstructionSet all;
const InstructionSet all = {NAME(PAGEDBENCH_ISA), KERNELS<float>, KERNELS<bfloat16>};

}  // namespace PAGEDBENCH_ISA
}  // namespace pagedbench
