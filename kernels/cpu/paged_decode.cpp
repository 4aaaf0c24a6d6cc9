// PagedAttention for one new token a sequence (SOSP'23, section 4.1): the block table says where to read.
#include "decode.h"

namespace pagedbench {

template <typename T>
void paged_decode(const Decode<T>& decode, const std::int32_t* block_tables, std::int64_t max_blocks,
                  std::int64_t block_size) {
    const auto slots_of = [=](std::int64_t sequence, std::int64_t start, int num_tokens, std::int64_t* slots) {
        const std::int32_t* table = block_tables + sequence * max_blocks;
        std::int64_t block = start / block_size;
        std::int64_t offset = start % block_size;
        for (int i = 0; i < num_tokens; ++block, offset = 0) {
            const std::int64_t base = table[block] * block_size;
            for (; offset < block_size && i < num_tokens; ++offset, ++i) slots[i] = base + offset;
        }
    };
    decode_all(decode, slots_of);
}

template void paged_decode(const Decode<float>&, const std::int32_t*, std::int64_t, std::int64_t);
template void paged_decode(const Decode<bfloat16>&, const std::int32_t*, std::int64_t, std::int64_t);

}  // namespace pagedbench
