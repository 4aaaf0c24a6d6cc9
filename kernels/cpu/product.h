// Where a packed weight meets the rows of an input: panels of columns, parts of their depth, tiles of rows.
//
// The rows of a chunk stay in the second-level cache while the panels pass; a panel is read from memory once for
// each chunk, part by part of its depth, and while one part is multiplied with all rows the next is fetched. Where
// the rows are so few that memory is the limit, several panels are multiplied at once.
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

/// Panels that only together give outputs: of a gated weight one for the gate and one for what it gates.
template <typename T>
inline std::int64_t panels_per_output(const PackedWeight<T>& weight) {
    return weight.activation == Activation::silu_gated ? 2 : 1;
}

template <typename T>
inline std::int64_t num_panels(const PackedWeight<T>& weight) {
    const std::int64_t together = panels_per_output(weight);
    return together * divided_up(weight.out_features / together, PANEL);
}

/// The most rows of an input of which several panels are multiplied at once.
constexpr int FEW_ROWS = MAX_ROWS / 2;

/// Panels whose sums with so many rows fit into the registers together: a power of two.
constexpr int panels_at_once(std::int64_t num_rows) {
    int number = 1;
    while (2 * number * num_rows <= MAX_ROWS) number *= 2;
    return number;
}

/// Where the share of a thread begins, as `share_out` cuts those of many rows.
template <typename T>
inline std::int64_t first_panel(const PackedWeight<T>& weight, int thread, int num_threads) {
    const std::int64_t together = panels_per_output(weight);
    return together * (num_panels(weight) / together * thread / num_threads);
}

/// Tasks that a thread should get at least, where several panels are a task.
constexpr std::int64_t TASKS_PER_THREAD = 2;

/// The panels of one task, and the chunk of rows that meets them.
struct Task {
    std::int64_t chunk, panel, end;
};

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
        const std::int64_t least = panels_per_output(weight);
        task_panels_ = panels_at_once(x.num_rows);
        while (task_panels_ > least && task_panels_ * TASKS_PER_THREAD * num_threads > num_panels(weight)) task_panels_ /= 2;
        if (task_panels_ < least) task_panels_ = least;
        tasks_per_chunk_ = divided_up(num_panels(weight), task_panels_);
    }

    std::int64_t num_chunks;

    std::int64_t num_tasks() const { return num_chunks * tasks_per_chunk_; }

    Task task(std::int64_t number) const {
        const std::int64_t panel = number % tasks_per_chunk_ * task_panels_, end = num_panels(weight_);
        return {number / tasks_per_chunk_, panel, panel + task_panels_ < end ? panel + task_panels_ : end};
    }

    std::int64_t first_row(std::int64_t chunk) const { return x_.num_rows * chunk / num_chunks; }

    /// Calls use(panel, first row, number of rows, tile) for every tile of a task, panel by panel.
    template <typename Use>
    void tiles(const Task& task, const Use& use) const {
        if (x_.num_rows <= FEW_ROWS) return tiles_at_once<FEW_ROWS>(task, use);
        for (std::int64_t panel = task.panel; panel < task.end; ++panel) tiles_of(task.chunk, panel, use);
    }

  private:
    /// Of many rows and one panel.
    template <typename Use>
    void tiles_of(std::int64_t chunk, std::int64_t panel, const Use& use) const {
        const std::int64_t units = num_units<T>(weight_.in_features);
        const T* part = weight_.panels + panel * panel_size<T>(weight_.in_features);
        alignas(64) Tile sums[MAX_TILES];  // one is enough where the depth is one part
        for (std::int64_t start = 0; start < units; start += PART_UNITS) {
            const std::int64_t size = units - start < PART_UNITS ? units - start : PART_UNITS;
            const bool is_end = start + size == units;
            const T* following = is_end ? after(panel) : part + size * PANEL * Unit<T>::ELEMENTS;
            for_tiles(chunk, [&](std::int64_t tile, std::int64_t num_tiles, std::int64_t row, int count) {
                Tile& own = sums[units > PART_UNITS ? tile : 0];
                multiply_rows<T, MAX_ROWS, PANEL_VECS>(count, x_.row(row) + start * Unit<T>::ELEMENTS, x_.stride, part,
                                                       size, own, PANEL, share_of(following, size, tile, num_tiles),
                                                       start > 0);
                if (is_end) use(panel, row, count, own);
            });
            part += size * PANEL * Unit<T>::ELEMENTS;
        }
    }

    /// Of up to ROWS rows, which is all there are.
    template <int ROWS, typename Use>
    void tiles_at_once(const Task& task, const Use& use) const {
        if constexpr (ROWS > 1) {
            if (x_.num_rows < ROWS) return tiles_at_once<ROWS - 1>(task, use);
        }
        tiles_at_once<ROWS, panels_at_once(ROWS)>(task.panel, task.end, use);
    }

    /// PANELS at a time, as long as there are so many.
    template <int ROWS, int PANELS, typename Use>
    void tiles_at_once(std::int64_t panel, std::int64_t end, const Use& use) const {
        const std::int64_t units = num_units<T>(weight_.in_features), stride = panel_size<T>(weight_.in_features);
        alignas(64) Tile sums[PANELS];
        for (; panel + PANELS <= end; panel += PANELS) {
            for (std::int64_t start = 0; start < units; start += PART_UNITS) {
                const std::int64_t size = units - start < PART_UNITS ? units - start : PART_UNITS;
                const T* part = weight_.panels + panel * stride + start * PANEL * Unit<T>::ELEMENTS;
                multiply_panels<T, ROWS, PANELS, PANEL_VECS>(x_.row(0) + start * Unit<T>::ELEMENTS, x_.stride, part, stride,
                                                             size, sums[0], MAX_ROWS * PANEL, start > 0);
            }
            for (int i = 0; i < PANELS; ++i) use(panel + i, std::int64_t{0}, ROWS, sums[i]);
        }
        if constexpr (PANELS > 1) {
            if (panel < end) tiles_at_once<ROWS, PANELS / 2>(panel, end, use);
        }
    }

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
    std::int64_t task_panels_, tasks_per_chunk_;  // the last task of a chunk may have fewer panels
};

}  // namespace pagedbench::PAGEDBENCH_ISA
