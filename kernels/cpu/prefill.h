// Causal attention of the newest tokens of some sequences over everything they have in the cache, in the
// manner of FlashAttention (Dao et al. 2022): keys and values pass in tiles, and no score outlives its tile.
//
// A work item is one KV head of a sequence and some of its new tokens. For each tile of keys and values it
// packs them into panels once (micro_kernel.h), whatever blocks they come from, and lets every query row of
// every query head that reads this KV head pass over them:
//
//     scores [rows, TILE] = query [rows, head_dim] · packed keys [head_dim, TILE]
//     sums   [rows, head_dim] = sums * factor + weights [rows, TILE] · packed values [TILE, head_dim]
#pragma once

#include <cstdlib>

#include "pack.h"
#include "softmax.h"
#include "threads.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// The most new tokens of one item: their sums stay in the second-level cache.
constexpr std::int64_t PREFILL_ROWS = 1024;

/// One thread's memory for one item.
template <typename T>
class PrefillScratch {
  public:
    PrefillScratch(std::int64_t num_rows, std::int64_t head_dim, bool is_widened) {
        const std::int64_t dim = rounded_up(head_dim, WIDE_COLUMNS);
        keys = make<T>(dim * PREFILL_TILE);
        values = make<T>(dim * PREFILL_TILE);
        sums = make<float>(num_rows * dim);
        running = make<Running>(num_rows);
        query = make<T>(QUERY_ROWS * dim);
        if (!is_widened) return;
        wide = make<T>(PREFILL_TILE * head_dim);
        key_scales = make<float>(PREFILL_TILE);
        value_scales = make<float>(PREFILL_TILE);
    }

    PrefillScratch(const PrefillScratch&) = delete;

    ~PrefillScratch() {
        std::free(keys);
        std::free(values);
        std::free(sums);
        std::free(running);
        std::free(query);
        std::free(wide);
        std::free(key_scales);
        std::free(value_scales);
    }

    T* keys;           // [PREFILL_TILE / WIDE_COLUMNS] panels of head_dim
    T* values;         // [head_dim / WIDE_COLUMNS] panels of PREFILL_TILE
    float* sums;       // [rows, padded head_dim]
    Running* running;  // [rows]
    T* query;          // [QUERY_ROWS, padded head_dim], only where head_dim is no whole number of units
    T* wide = nullptr;              // [PREFILL_TILE, head_dim], of a cache of 8 bits
    float* key_scales = nullptr;    // [PREFILL_TILE]
    float* value_scales = nullptr;  // [PREFILL_TILE]

  private:
    template <typename V>
    static V* make(std::int64_t count) {
        return static_cast<V*>(std::aligned_alloc(64, rounded_up(count * sizeof(V), 64)));
    }
};

/// The keys and values of one tile, packed.
struct PackedTile {
    std::int64_t start;  // position of its first token
    int num_tokens;
    int num_padded;      // a multiple of WIDE_COLUMNS
};

/// C is the type of the caches.
template <typename T, typename C>
class Prefilling {
  public:
    explicit Prefilling(const Prefill<T, C>& prefill) : prefill_(prefill) {
        num_kv_heads_ = prefill.keys.num_heads;
        group_ = prefill.query.num_heads / num_kv_heads_;
        head_dim_ = static_cast<int>(prefill.query.head_dim);
        padded_dim_ = rounded_up(head_dim_, WIDE_COLUMNS);
        rows_per_item_ = PREFILL_ROWS / group_ < QUERY_ROWS ? QUERY_ROWS : PREFILL_ROWS / group_;
    }

    void run() const {
        std::int64_t num_parts = 0;
        for (std::int64_t i = 0; i < prefill_.num_sequences; ++i) num_parts += parts_of(i);
        share_out(num_parts * num_kv_heads_, prefill_.num_threads, [&](std::int64_t item, int) {
            std::int64_t part = item / num_kv_heads_, sequence = 0;
            while (part >= parts_of(sequence)) part -= parts_of(sequence++);
            attend(sequence, part, item % num_kv_heads_);
        });
    }

  private:
    std::int64_t num_rows(std::int64_t sequence) const {
        return prefill_.query_ends[sequence] - prefill_.query_starts[sequence];
    }

    std::int64_t parts_of(std::int64_t sequence) const {
        return (num_rows(sequence) + rows_per_item_ - 1) / rows_per_item_;
    }

    /// Not inlined: of two copies, for one thread and for several, one may fuse products and sums that the other
    /// does not, and the bits would depend on the number of threads.
    [[gnu::noinline]] void attend(std::int64_t sequence, std::int64_t part, std::int64_t kv_head) const {
        const std::int64_t first = part * rows_per_item_, left = num_rows(sequence) - first;
        const std::int64_t count = left < rows_per_item_ ? left : rows_per_item_;
        // Positions are counted without the gap that no row of the item sees. Row r of the query, counted in
        // the sequence, is then at r + cached.
        std::int64_t cached = prefill_.context_lens[sequence] - num_rows(sequence);
        const Gap gap = prefill_.window.gap(cached + first);
        cached -= gap.length;
        PrefillScratch<T> scratch(count * group_, head_dim_, SCALE_LEN<C> > 0);
        for (std::int64_t i = 0; i < count * group_; ++i) {
            scratch.running[i] = before_tokens(prefill_.scores, kv_head * group_ + i / count);
        }
        std::memset(scratch.sums, 0, count * group_ * padded_dim_ * sizeof(float));
        for (std::int64_t start = 0; start < cached + first + count; start += PREFILL_TILE) {
            const PackedTile tile = pack(sequence, start, cached + first + count, gap, kv_head, scratch);
            for (std::int64_t member = 0; member < group_; ++member) {
                for (std::int64_t row = 0; row < count; row += QUERY_ROWS) {
                    const int num = static_cast<int>(count - row < QUERY_ROWS ? count - row : QUERY_ROWS);
                    const std::int64_t position = cached + first + row;
                    if (position + num <= start) continue;  // behind all of these rows
                    if (prefill_.window.hidden(position, start).covers(tile.num_tokens)) continue;
                    const std::int64_t query_row = prefill_.query_starts[sequence] + first + row;
                    add_tile(query_row, kv_head * group_ + member, position, num, tile, scratch, member * count + row);
                }
            }
        }
        finish(prefill_.query_starts[sequence] + first, count, kv_head, scratch);
    }

    PackedTile pack(std::int64_t sequence, std::int64_t start, std::int64_t stop, Gap gap, std::int64_t kv_head,
                    const PrefillScratch<T>& scratch) const {
        const int count = static_cast<int>(stop - start < PREFILL_TILE ? stop - start : PREFILL_TILE);
        std::int64_t slots[PREFILL_TILE];
        const C* keys[PREFILL_TILE];
        const C* values[PREFILL_TILE];
        prefill_.placement.slots(sequence, start, count, gap, slots);
        for (int i = 0; i < count; ++i) {
            keys[i] = prefill_.keys.row(slots[i]) + kv_head * (head_dim_ + SCALE_LEN<C>);
            values[i] = prefill_.values.row(slots[i]) + kv_head * (head_dim_ + SCALE_LEN<C>);
        }
        const T* rows[PREFILL_TILE] = {};
        pack_keys(widened(keys, count, head_dim_, rows, scratch.wide, scratch.key_scales), count, head_dim_, scratch.keys);
        pack_values(widened(values, count, head_dim_, rows, scratch.wide, scratch.value_scales), count, head_dim_,
                    scratch.values);
        return {start, count, static_cast<int>(rounded_up(count, WIDE_COLUMNS))};
    }

    /// `num` rows of one query head from `position` on over a tile; `at` is their place in the scratch.
    void add_tile(std::int64_t query_row, std::int64_t head, std::int64_t position, int num, const PackedTile& tile,
                  const PrefillScratch<T>& scratch, std::int64_t at) const {
        constexpr int ELEMENTS = Unit<T>::ELEMENTS;
        alignas(64) float scores[QUERY_ROWS * PREFILL_TILE];
        alignas(64) T weights[QUERY_ROWS * PREFILL_TILE];
        const std::int64_t units = (head_dim_ + ELEMENTS - 1) / ELEMENTS;
        const std::int64_t last = position + num - 1 - tile.start;  // the last token of the tile that is seen
        const int seen = static_cast<int>(last + 1 < tile.num_tokens ? last + 1 : tile.num_tokens);
        const T* query = prefill_.query.row(query_row) + head * head_dim_;
        std::int64_t stride = prefill_.query.stride;
        if (head_dim_ % ELEMENTS) {
            query = padded_query(query, num, scratch.query);
            stride = padded_dim_;
        }
        for (int first = 0; first < seen; first += WIDE_COLUMNS) {
            multiply_rows<T, QUERY_ROWS, WIDE>(num, query, stride, scratch.keys + first * units * ELEMENTS, units,
                                               scores + first, PREFILL_TILE);
        }
        const int padded = static_cast<int>(rounded_up(seen, WIDE_COLUMNS));
        float* sums = scratch.sums + at * padded_dim_;
        for (int row = 0; row < num; ++row) {
            float* own = scores + row * PREFILL_TILE;
            const std::int64_t past = position + row + 1 - tile.start, visible = past < seen ? past : seen;
            const Hidden masked = prefill_.window.hidden(position + row, tile.start);
            if (visible <= 0 || masked.covers(visible)) {
                std::memset(weights + row * PREFILL_TILE, 0, padded * sizeof(T));
                continue;
            }
            if (scratch.key_scales) multiply_by(scratch.key_scales, padded, own);
            const float scale = cap(own, padded, prefill_.scores);
            for (std::int64_t i = masked.first > 0 ? masked.first : 0; i < masked.end && i < visible; ++i) {
                own[i] = -__builtin_inff();
            }
            const float factor = fold(own, static_cast<int>(visible), padded, scale, scratch.running[at + row]);
            if (scratch.value_scales) multiply_by(scratch.value_scales, padded, own);
            for (int i = 0; i < padded; i += LANES) store(load(own + i), weights + row * PREFILL_TILE + i);
            for (int i = 0; factor != 1.0f && i < padded_dim_; i += LANES) {
                store(load(sums + row * padded_dim_ + i) * factor, sums + row * padded_dim_ + i);
            }
        }
        add_values(num, weights, seen, tile, scratch.values, sums);
    }

    /// Rows whose last unit is half empty.
    const T* padded_query(const T* query, int num, T* target) const {
        std::memset(target, 0, QUERY_ROWS * padded_dim_ * sizeof(T));
        for (int row = 0; row < num; ++row) {
            std::memcpy(target + row * padded_dim_, query + row * prefill_.query.stride, head_dim_ * sizeof(T));
        }
        return target;
    }

    void add_values(int num, const T* weights, int seen, const PackedTile& tile, const T* values, float* sums) const {
        constexpr int ELEMENTS = Unit<T>::ELEMENTS;
        alignas(64) float products[QUERY_ROWS * WIDE_COLUMNS];
        const std::int64_t units = (seen + ELEMENTS - 1) / ELEMENTS;
        const std::int64_t panel = (tile.num_tokens + ELEMENTS - 1) / ELEMENTS * ELEMENTS * WIDE_COLUMNS;
        for (int first = 0; first < head_dim_; first += WIDE_COLUMNS) {
            multiply_rows<T, QUERY_ROWS, WIDE>(num, weights, PREFILL_TILE, values + first / WIDE_COLUMNS * panel, units,
                                               products, WIDE_COLUMNS);
            for (int row = 0; row < num; ++row) {
                float* target = sums + row * padded_dim_ + first;
                for (int i = 0; i < WIDE_COLUMNS; i += LANES) {
                    store(load(target + i) + load(products + row * WIDE_COLUMNS + i), target + i);
                }
            }
        }
    }

    void finish(std::int64_t query_row, std::int64_t count, std::int64_t kv_head,
                const PrefillScratch<T>& scratch) const {
        for (std::int64_t i = 0; i < count * group_; ++i) {
            const std::int64_t head = kv_head * group_ + i / count;
            T* out = prefill_.out.row(query_row + i % count) + head * head_dim_;
            const float* sums = scratch.sums + i * padded_dim_;
            const Vec divisor = broadcast(scratch.running[i].sum);
            int element = 0;
            for (; element + LANES <= head_dim_; element += LANES) store(load(sums + element) / divisor, out + element);
            if (element < head_dim_) store_first(load(sums + element) / divisor, out + element, head_dim_ - element);
        }
    }

    const Prefill<T, C>& prefill_;
    std::int64_t num_kv_heads_, group_, rows_per_item_, padded_dim_;
    int head_dim_;
};

template <typename T, typename C>
void prefill(const Prefill<T, C>& arguments) {
    Prefilling<T, C>(arguments).run();
}

}  // namespace pagedbench::PAGEDBENCH_ISA
