// Attention for one new token a sequence whose tokens lie one after another (Orca, FasterTransformer).
#include "decode.h"

namespace pagedbench {

template <typename T>
void contiguous_decode(const Decode<T>& decode, const std::int64_t* extent_starts) {
    const auto slots_of = [=](std::int64_t sequence, std::int64_t start, int num_tokens, std::int64_t* slots) {
        for (int i = 0; i < num_tokens; ++i) slots[i] = extent_starts[sequence] + start + i;
    };
    decode_all(decode, slots_of);
}

template void contiguous_decode(const Decode<float>&, const std::int64_t*);
template void contiguous_decode(const Decode<bfloat16>&, const std::int64_t*);

}  // namespace pagedbench
