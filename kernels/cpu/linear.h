// x · weightᵀ + bias, then an activation; the weight is packed once.
//
//     weight [out_features, in_features]            panels: one after another, each of PANEL columns
//     row = one output column                       panel p: [unit of depth][column p * PANEL + c][element]
//
// A task is a chunk of rows and a panel. The rows of a chunk stay in the second-level cache while the panels
// pass; a panel is read from memory once for each chunk, and while one is multiplied the next is fetched.
#pragma once

#include <cmath>
#include <cstdlib>

#include "micro_kernel.h"
#include "threads.h"

namespace pagedbench::PAGEDBENCH_ISA {

#if defined(__AVX512F__)
constexpr int PANEL_VECS = 3, MAX_ROWS = 8;  // 24 of 32 registers are sums
#else
constexpr int PANEL_VECS = 2, MAX_ROWS = 6;  // 12 of 16
#endif
constexpr int PANEL = PANEL_VECS * LANES;

/// Bytes of rows that a chunk may have: half of a usual second-level cache.
constexpr std::int64_t CHUNK_BYTES = 512 << 10;

inline std::int64_t divided_up(std::int64_t number, std::int64_t divisor) { return (number + divisor - 1) / divisor; }

template <typename T>
inline std::int64_t num_units(std::int64_t in_features) { return divided_up(in_features, Unit<T>::ELEMENTS); }

/// Elements of one panel.
template <typename T>
inline std::int64_t panel_size(std::int64_t in_features) { return num_units<T>(in_features) * PANEL * Unit<T>::ELEMENTS; }

/// A gated weight has as many panels for the gate as for what it gates, in turns.
template <typename T>
inline std::int64_t num_panels(const PackedWeight<T>& weight) {
    if (weight.activation == Activation::silu_gated) return 2 * divided_up(weight.out_features / 2, PANEL);
    return divided_up(weight.out_features, PANEL);
}

template <typename T>
std::int64_t packed_size(const PackedWeight<T>& weight) { return num_panels(weight) * panel_size<T>(weight.in_features); }

template <typename T>
std::int64_t padded_columns(const PackedWeight<T>& weight) { return num_panels(weight) * PANEL; }

/// Row of the weight that a column of a panel holds; -1 for padding.
template <typename T>
inline std::int64_t source_row(const PackedWeight<T>& weight, std::int64_t panel, std::int64_t column) {
    if (weight.activation != Activation::silu_gated) {
        const std::int64_t row = panel * PANEL + column;
        return row < weight.out_features ? row : -1;
    }
    const std::int64_t half = weight.out_features / 2, row = panel / 2 * PANEL + column;
    return row >= half ? -1 : panel % 2 * half + row;
}

template <typename T>
void pack_panel(const PackedWeight<T>& packed, Matrix<const T> weight, const T* bias, std::int64_t panel) {
    constexpr int ELEMENTS = Unit<T>::ELEMENTS;
    T* target = packed.panels + panel * panel_size<T>(packed.in_features);
    std::memset(target, 0, panel_size<T>(packed.in_features) * sizeof(T));
    for (std::int64_t column = 0; column < PANEL; ++column) {
        const std::int64_t row = source_row(packed, panel, column);
        float* column_bias = packed.bias + panel * PANEL + column;
        *column_bias = row >= 0 && bias ? load_first(bias + row, 1)[0] : 0.0f;
        if (row < 0) continue;
        const T* from = weight.row(row);
        for (std::int64_t i = 0; i < packed.in_features; ++i) {
            target[(i / ELEMENTS * PANEL + column) * ELEMENTS + i % ELEMENTS] = from[i];
        }
    }
}

template <typename T>
void pack(const PackedWeight<T>& packed, Matrix<const T> weight, const T* bias, int num_threads) {
    share_out(num_panels(packed), num_threads,
              [&](std::int64_t panel, int) { pack_panel(packed, weight, bias, panel); });
}

/// x / (1 + exp(-x))
inline Vec silu(Vec x) {
    const Vec small = exp_of_negative(select(x < 0.0f, x, -x));  // exp(-|x|)
    return x * select(x < 0.0f, small, broadcast(1.0f)) / (1.0f + small);
}

inline Vec gelu(Vec x) {
    for (int i = 0; i < LANES; ++i) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    return x;
}

/// x · (1 + tanh(u)) / 2 = x / (1 + exp(-2u)) = silu(2u) · x / 2u
inline Vec gelu_tanh(Vec x) {
    const Vec twice = 1.59576912f * (x + 0.044715f * x * x * x);
    const Vec small = exp_of_negative(select(twice < 0.0f, twice, -twice));
    return x * select(twice < 0.0f, small, broadcast(1.0f)) / (1.0f + small);
}

inline Vec activate(Vec x, Activation activation) {
    switch (activation) {
        case Activation::relu: return select(x < 0.0f, Vec{}, x);
        case Activation::gelu: return gelu(x);
        case Activation::gelu_tanh: return gelu_tanh(x);
        default: return x;
    }
}

/// A tile of sums: MAX_ROWS rows of a panel.
typedef float Tile[MAX_ROWS * PANEL];

/// Where the panels of a weight meet the rows of one chunk.
template <typename T>
class Product {
  public:
    Product(const PackedWeight<T>& weight, Matrix<const T> x) : weight_(weight), x_(x) {
        const std::int64_t row_bytes = weight.in_features * sizeof(T);
        const std::int64_t most = CHUNK_BYTES / row_bytes / MAX_ROWS * MAX_ROWS;
        chunk_rows_ = most < 4 * MAX_ROWS ? 4 * MAX_ROWS : most;
        num_chunks = divided_up(x.num_rows, chunk_rows_);
    }

    std::int64_t num_chunks;

    std::int64_t first_row(std::int64_t chunk) const { return x_.num_rows * chunk / num_chunks; }

    /// Calls use(first row, number of rows, tile) for every tile of a panel.
    template <typename Use>
    void tiles(std::int64_t chunk, std::int64_t panel, const Use& use) const {
        const std::int64_t first = first_row(chunk), num_rows = first_row(chunk + 1) - first;
        const std::int64_t num_tiles = divided_up(num_rows, MAX_ROWS);
        const T* columns = weight_.panels + panel * panel_size<T>(weight_.in_features);
        const std::int64_t units = num_units<T>(weight_.in_features);
        for (std::int64_t tile = 0; tile < num_tiles; ++tile) {
            const std::int64_t row = first + num_rows * tile / num_tiles;
            const int count = static_cast<int>(first + num_rows * (tile + 1) / num_tiles - row);
            alignas(64) Tile sums;
            multiply_rows<T, MAX_ROWS, PANEL_VECS>(count, x_.row(row), x_.stride, columns, units, sums, PANEL,
                                                   share_of_next(panel, tile, num_tiles));
            use(row, count, sums);
        }
    }

  private:
    /// The part of the next panel that this tile fetches. With few tiles memory is the limit, and the
    /// processor's own prefetcher does better.
    const char* share_of_next(std::int64_t panel, std::int64_t tile, std::int64_t num_tiles) const {
        if (num_tiles < PANEL_VECS || tile >= PANEL_VECS || panel + 1 >= num_panels(weight_)) return nullptr;
        const T* next = weight_.panels + (panel + 1) * panel_size<T>(weight_.in_features);
        return reinterpret_cast<const char*>(next) + tile * num_units<T>(weight_.in_features) * 64;
    }

    const PackedWeight<T>& weight_;
    Matrix<const T> x_;
    std::int64_t chunk_rows_;
};

/// Products of less than this many multiplications are not worth waking a thread.
constexpr std::int64_t SERIAL_SIZE = 1 << 17;

template <typename T>
inline int threads_for(const PackedWeight<T>& weight, std::int64_t num_rows, int num_threads) {
    return num_rows * weight.in_features * weight.out_features < SERIAL_SIZE ? 1 : num_threads;
}

/// Stores one row of a panel: full vectors, then what is left of the last.
template <typename T, typename Value>
inline void store_columns(T* to, std::int64_t num_columns, const Value& value) {
    std::int64_t column = 0;
    for (; column + LANES <= num_columns; column += LANES) store(value(column), to + column);
    if (column < num_columns) store_first(value(column), to + column, static_cast<int>(num_columns - column));
}

template <typename T>
inline std::int64_t columns_of(std::int64_t panel, std::int64_t out_features) {
    const std::int64_t left = out_features - panel * PANEL;
    return left < PANEL ? left : PANEL;
}

template <typename T>
void plain_linear(const PackedWeight<T>& weight, const Product<T>& product, std::int64_t chunk, std::int64_t panel,
                  Matrix<T> out) {
    const float* bias = weight.bias + panel * PANEL;
    const std::int64_t num_columns = columns_of<T>(panel, weight.out_features);
    product.tiles(chunk, panel, [&](std::int64_t row, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            store_columns(out.row(row + i) + panel * PANEL, num_columns, [&](std::int64_t column) {
                return activate(load(sums + i * PANEL + column) + load(bias + column), weight.activation);
            });
        }
    });
}

/// A pair of panels: the gate's rows wait in `gate`, [rows of the chunk, PANEL], for what they gate.
template <typename T>
void gated_linear(const PackedWeight<T>& weight, const Product<T>& product, std::int64_t chunk, std::int64_t pair,
                  Matrix<T> out, float* gate) {
    const float* bias = weight.bias + 2 * pair * PANEL;
    const std::int64_t num_columns = columns_of<T>(pair, weight.out_features / 2);
    const std::int64_t first = product.first_row(chunk);
    product.tiles(chunk, 2 * pair, [&](std::int64_t row, int count, const Tile& sums) {
        std::memcpy(gate + (row - first) * PANEL, sums, count * PANEL * sizeof(float));
    });
    product.tiles(chunk, 2 * pair + 1, [&](std::int64_t row, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            const float* gates = gate + (row + i - first) * PANEL;
            store_columns(out.row(row + i) + pair * PANEL, num_columns, [&](std::int64_t column) {
                const Vec up = load(sums + i * PANEL + column) + load(bias + PANEL + column);
                return silu(load(gates + column) + load(bias + column)) * up;
            });
        }
    });
}

template <typename T>
void linear(const PackedWeight<T>& weight, Matrix<const T> x, Matrix<T> out, int num_threads) {
    if (x.num_rows == 0) return;
    const Product<T> product(weight, x);
    num_threads = threads_for(weight, x.num_rows, num_threads);
    if (weight.activation != Activation::silu_gated) {
        const std::int64_t panels = num_panels(weight);
        share_out(product.num_chunks * panels, num_threads, [&](std::int64_t task, int) {
            plain_linear(weight, product, task / panels, task % panels, out);
        });
        return;
    }
    const std::int64_t pairs = num_panels(weight) / 2, chunk_rows = divided_up(x.num_rows, product.num_chunks);
    float* gates = static_cast<float*>(std::malloc(num_threads * chunk_rows * PANEL * sizeof(float)));
    share_out(product.num_chunks * pairs, num_threads, [&](std::int64_t task, int thread) {
        gated_linear(weight, product, task / pairs, task % pairs, out, gates + thread * chunk_rows * PANEL);
    });
    std::free(gates);
}

/// The largest output of a row so far; of equals the first.
struct Best {
    float value;
    std::int64_t index;

    void take(float other, std::int64_t at) {
        if (other > value || (other == value && at < index)) value = other, index = at;
    }
};

template <typename T>
void argmax_panel(const PackedWeight<T>& weight, const Product<T>& product, std::int64_t chunk, std::int64_t panel,
                  Best* best) {
    const std::int64_t num_columns = columns_of<T>(panel, weight.out_features);
    const float* bias = weight.bias + panel * PANEL;
    product.tiles(chunk, panel, [&](std::int64_t row, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            float* values = const_cast<float*>(sums) + i * PANEL;
            Vec most = broadcast(-__builtin_inff());
            for (std::int64_t column = 0; column < PANEL; column += LANES) {
                T rounded[LANES];  // as the product would hold it: of equals the first wins
                store(load(values + column) + load(bias + column), rounded);
                store(load(rounded), values + column);
                most = maximum(most, load(rounded));
            }
            if (!(largest(most) >= best[row + i].value)) continue;
            for (std::int64_t column = 0; column < num_columns; ++column) {
                best[row + i].take(values[column], panel * PANEL + column);
            }
        }
    });
}

template <typename T>
void argmax(const PackedWeight<T>& weight, Matrix<const T> x, std::int64_t* out, int num_threads) {
    const Product<T> product(weight, x);
    const std::int64_t panels = num_panels(weight), num_rows = x.num_rows;
    num_threads = threads_for(weight, num_rows, num_threads);
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    Best* best = static_cast<Best*>(std::malloc(num_threads * num_rows * sizeof(Best)));
    for (std::int64_t i = 0; i < num_threads * num_rows; ++i) best[i] = {-__builtin_inff(), 0};
    share_out(product.num_chunks * panels, num_threads, [&](std::int64_t task, int thread) {
        argmax_panel(weight, product, task / panels, task % panels, best + thread * num_rows);
    });
    for (std::int64_t row = 0; row < num_rows; ++row) {
        for (int thread = 1; thread < num_threads; ++thread) {
            const Best& other = best[thread * num_rows + row];
            best[row].take(other.value, other.index);
        }
        out[row] = best[row].index;
    }
    std::free(best);
}

}  // namespace pagedbench::PAGEDBENCH_ISA
