// Stores the keys and values of new tokens in their slots.
#include <cstring>

#include "kernels.h"

namespace pagedbench {

template <typename T>
void write_kv(Rows<const T> key, Rows<const T> value, Rows<T> key_cache, Rows<T> value_cache,
              const std::int64_t* slots, int num_threads) {
    const std::size_t row_bytes = key.num_heads * key.head_dim * sizeof(T);
    // Waking a thread costs as much as copying some tens of KiB.
    const bool is_large = key.num_rows * row_bytes > (std::size_t{1} << 16);
    (void)is_large, (void)num_threads;  // only OpenMP reads them
#pragma omp parallel for schedule(static) num_threads(num_threads) if (is_large)
    for (std::int64_t i = 0; i < key.num_rows; ++i) {
        if (slots[i] < 0) continue;
        std::memcpy(key_cache.row(slots[i]), key.row(i), row_bytes);
        std::memcpy(value_cache.row(slots[i]), value.row(i), row_bytes);
    }
}

template void write_kv(Rows<const float>, Rows<const float>, Rows<float>, Rows<float>, const std::int64_t*, int);
template void write_kv(Rows<const bfloat16>, Rows<const bfloat16>, Rows<bfloat16>, Rows<bfloat16>,
                       const std::int64_t*, int);

}  // namespace pagedbench
