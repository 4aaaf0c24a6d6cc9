// Chooses the instruction set: the widest that this processor and its operating system support.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace pagedbench {

namespace portable {
extern const InstructionSet all;
}

#if defined(PAGEDBENCH_X86)
namespace avx2 {
extern const InstructionSet all;
}
namespace avx512 {
extern const InstructionSet all;
}
namespace avx512_bf16 {
extern const InstructionSet all;
}
#endif

namespace {

/// The widest first.
const InstructionSet* available(int index) {
    const InstructionSet* found[4] = {};
    int count = 0;
#if defined(PAGEDBENCH_X86)
    __builtin_cpu_init();
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool has_products = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
    if (has_avx512 && has_products) found[count++] = &avx512_bf16::all;
    if (has_avx512) found[count++] = &avx512::all;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &avx2::all;
#endif
    found[count++] = &portable::all;
    return index < count ? found[index] : nullptr;
}

/// PAGEDBENCH_ISA, an environment variable, selects a narrower one (to test all of them on one machine).
const InstructionSet& choose() {
    const char* wanted = std::getenv("PAGEDBENCH_ISA");
    for (int i = 0; wanted && available(i); ++i) {
        if (std::strcmp(available(i)->name, wanted) == 0) return *available(i);
    }
    return *available(0);
}

}  // namespace

const InstructionSet& instruction_set() {
    static const InstructionSet& chosen = choose();
    return chosen;
}

}  // namespace pagedbench
