// Every kernel, compiled for one instruction set: CMake builds this file several times, each with its own
// flags and its own PAGEDBENCH_ISA, the namespace that keeps them apart.
#include "decode.h"
#include "linear.h"
#include "prefill.h"
#include "tokens.h"

namespace pagedbench {
namespace PAGEDBENCH_ISA {

template <typename T>
constexpr Kernels<T> KERNELS = {decode<T>,         prefill<T>, write_kv<T>, rotate_and_write_kv<T>, norm<T>, packed_size<T>,
                                padded_columns<T>, pack<T>,    linear<T>,   argmax<T>};

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const InstructionSet all;
const InstructionSet all = {NAME(PAGEDBENCH_ISA), KERNELS<float>, KERNELS<bfloat16>};

}  // namespace PAGEDBENCH_ISA
}  // namespace pagedbench
