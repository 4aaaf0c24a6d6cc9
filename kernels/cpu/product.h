// Where a packed weight meets the rows of an input: panels of columns, parts of their depth, tiles of rows.
//
// The rows of a chunk stay in the second-level cache while the panels pass; a panel is read from memory once for
// each chunk, part by part of its depth, and while one part is multiplied with all rows the next is fetched.
#pragma once

#include "micro_kernel.h"

namespace pagedbench::PAGEDBENCH_ISA {

#if defined(__AVX512F__)
constexpr int PANEL_VECS = 3, MAX_ROWS = 8;  // 24 of 32 registers are sums
#else
constexpr int PANEL_VECS = 2, MAX_ROWS = 6;  // 12 of 16
#endif
constexpr int PANEL = PANEL_VECS * LANES;

/// Bytes of rows that a chunk may have: half of a usual second-level cache.
constexpr std::int64_t CHUNK_BYTES = 512 << 10;

/// Units of depth that are summed at once. A panel's part of so many stays in the second-level cache; and long sums
/// are made of such parts, which keeps their rounding errors small.
constexpr std::int64_t PART_UNITS = 384;

/// Tiles of a chunk at least, and at most where the depth has several parts.
constexpr std::int64_t MIN_TILES = 4, MAX_TILES = CHUNK_BYTES / (PART_UNITS * 4) / MAX_ROWS;
static_assert(MIN_TILES <= MAX_TILES);

inline std::int64_t divided_up(std::int64_t number, std::int64_t divisor) { return (number + divisor - 1) / divisor; }

template <typename T>
inline std::int64_t num_units(std::int64_t in_features) { return divided_up(in_features, Unit<T>::ELEMENTS); }

/// Elements of one panel.
template <typename T>
inline std::int64_t panel_size(std::int64_t in_features) { return num_units<T>(in_features) * PANEL * Unit<T>::ELEMENTS; }

/// Panels of a task. A gated weight has as many panels for the gate as for what it gates, in turns.
template <typename T>
inline std::int64_t panels_per_task(const PackedWeight<T>& weight) {
    return weight.activation == Activation::silu_gated ? 2 : 1;
}

/// Tasks of one chunk of rows.
template <typename T>
inline std::int64_t num_tasks(const PackedWeight<T>& weight) {
    return divided_up(weight.out_features / panels_per_task(weight), PANEL);
}

template <typename T>
inline std::int64_t num_panels(const PackedWeight<T>& weight) { return panels_per_task(weight) * num_tasks(weight); }

/// Where the share of a thread begins, as `share_out` cuts them.
template <typename T>
inline std::int64_t first_panel(const PackedWeight<T>& weight, int thread, int num_threads) {
    return panels_per_task(weight) * (num_tasks(weight) * thread / num_threads);
}

/// A tile of sums: MAX_ROWS rows of a panel.
typedef float Tile[MAX_ROWS * PANEL];

/// Where the panels of a weight meet the rows of one chunk.
template <typename T>
class Product {
  public:
    /// `next`: see `Kernels::linear`.
    Product(const PackedWeight<T>& weight, const PackedWeight<T>* next, Matrix<const T> x, int num_threads)
        : weight_(weight), next_(next), x_(x), num_threads_(num_threads) {
        const std::int64_t row_bytes = weight.in_features * sizeof(T);
        const std::int64_t most = CHUNK_BYTES / row_bytes / MAX_ROWS;
        num_chunks = divided_up(x.num_rows, (most < MIN_TILES ? MIN_TILES : most) * MAX_ROWS);
    }

    std::int64_t num_chunks;

    std::int64_t first_row(std::int64_t chunk) const { return x_.num_rows * chunk / num_chunks; }

    /// Calls use(first row, number of rows, tile) for every tile of a panel. `answer`: where that will store the panel's
    /// columns, if it stores them.
    template <typename Use>
    void tiles(std::int64_t chunk, std::int64_t panel, const Use& use, Matrix<T> answer = {}) const {
        const std::int64_t units = num_units<T>(weight_.in_features);
        const T* part = weight_.panels + panel * panel_size<T>(weight_.in_features);
        alignas(64) Tile sums[MAX_TILES];  // one is enough where the depth is one part
        for (std::int64_t start = 0; start < units; start += PART_UNITS) {
            const std::int64_t size = units - start < PART_UNITS ? units - start : PART_UNITS;
            const bool is_end = start + size == units;
            const T* following = is_end ? after(panel) : part + size * PANEL * Unit<T>::ELEMENTS;
            for_tiles(chunk, [&](std::int64_t tile, std::int64_t num_tiles, std::int64_t row, int count) {
                Tile& own = sums[units > PART_UNITS ? tile : 0];
                Ahead ahead{share_of(following, size, tile, num_tiles)};
                if (is_end && answer.data) {
                    ahead.answer = answer.row(row), ahead.answer_stride = answer.stride * sizeof(T);
                }
                multiply_rows<T, MAX_ROWS, PANEL_VECS>(count, x_.row(row) + start * Unit<T>::ELEMENTS, x_.stride, part,
                                                       size, own, PANEL, ahead, start > 0);
                if (is_end) use(row, count, own);
            });
            part += size * PANEL * Unit<T>::ELEMENTS;
        }
    }

  private:
    /// Calls use(tile, number of tiles, first row, number of rows).
    template <typename Use>
    void for_tiles(std::int64_t chunk, const Use& use) const {
        const std::int64_t first = first_row(chunk), num_rows = first_row(chunk + 1) - first;
        const std::int64_t num_tiles = divided_up(num_rows, MAX_ROWS);
        for (std::int64_t tile = 0; tile < num_tiles; ++tile) {
            const std::int64_t row = first + num_rows * tile / num_tiles;
            use(tile, num_tiles, row, static_cast<int>(first + num_rows * (tile + 1) / num_tiles - row));
        }
    }

    /// What a thread reads after a panel: the one behind it, or behind its share that of the next weight; or null.
    const T* after(std::int64_t panel) const {
        for (int thread = 0; thread < num_threads_; ++thread) {
            if (panel + 1 != first_panel(weight_, thread + 1, num_threads_)) continue;
            if (!next_) return nullptr;
            return next_->panels + first_panel(*next_, thread, num_threads_) * panel_size<T>(next_->in_features);
        }
        return weight_.panels + (panel + 1) * panel_size<T>(weight_.in_features);
    }

    /// What a tile fetches of a part that follows. With few tiles memory is the limit, and the processor's own
    /// prefetcher does better.
    static const char* share_of(const T* following, std::int64_t size, std::int64_t tile, std::int64_t num_tiles) {
        if (!following || num_tiles < PANEL_VECS || tile >= PANEL_VECS) return nullptr;
        return reinterpret_cast<const char*>(following) + tile * size * 64;
    }

    const PackedWeight<T>& weight_;
    const PackedWeight<T>* next_;
    Matrix<const T> x_;
    int num_threads_;
};

}  // namespace pagedbench::PAGEDBENCH_ISA
