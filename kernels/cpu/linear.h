// x · weightᵀ + bias, then an activation; the weight is packed once.
//
//     weight [out_features, in_features]            panels: one after another, each of PANEL columns
//     row = one output column                       panel p: [unit of depth][column p * PANEL + c][element]
//
// A task is a chunk of rows and a panel (product.h).
#pragma once

#include <cmath>
#include <cstdlib>

#include "product.h"
#include "threads.h"

namespace pagedbench::PAGEDBENCH_ISA {

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
    const T* rows[PANEL];
    for (std::int64_t column = 0; column < PANEL; ++column) {
        const std::int64_t row = source_row(packed, panel, column);
        packed.bias[panel * PANEL + column] = row >= 0 && bias ? load_first(bias + row, 1)[0] : 0.0f;
        rows[column] = row >= 0 ? weight.row(row) : nullptr;
    }
    T* target = packed.panels + panel * panel_size<T>(packed.in_features);
    for (int first = 0; first < PANEL; first += LANES) {
        pack_columns(rows + first, packed.in_features, target + first * Unit<T>::ELEMENTS, PANEL);
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

/// The columns of `out` that the sums of a panel become.
template <typename T>
inline Matrix<T> columns_from(Matrix<T> out, std::int64_t panel) {
    const std::int64_t first = panel * PANEL;
    return {out.data + first, out.num_rows, columns_of<T>(panel, out.num_columns), out.stride};
}

template <typename T>
void plain_linear(const PackedWeight<T>& weight, const Product<T>& product, std::int64_t chunk, std::int64_t panel,
                  Matrix<T> out) {
    const float* bias = weight.bias + panel * PANEL;
    const Matrix<T> to = columns_from(out, panel);
    const auto use = [&](std::int64_t row, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            store_columns(to.row(row + i), to.num_columns, [&](std::int64_t column) {
                return activate(load(sums + i * PANEL + column) + load(bias + column), weight.activation);
            });
        }
    };
    product.tiles(chunk, panel, use, to);
}

/// A pair of panels: the gate's rows wait in `gate`, [rows of the chunk, PANEL], for what they gate.
template <typename T>
void gated_linear(const PackedWeight<T>& weight, const Product<T>& product, std::int64_t chunk, std::int64_t pair,
                  Matrix<T> out, float* gate) {
    const float* bias = weight.bias + 2 * pair * PANEL;
    const Matrix<T> to = columns_from(out, pair);
    const std::int64_t first = product.first_row(chunk);
    product.tiles(chunk, 2 * pair, [&](std::int64_t row, int count, const Tile& sums) {
        std::memcpy(gate + (row - first) * PANEL, sums, count * PANEL * sizeof(float));
    });
    const auto use = [&](std::int64_t row, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            const float* gates = gate + (row + i - first) * PANEL;
            store_columns(to.row(row + i), to.num_columns, [&](std::int64_t column) {
                const Vec up = load(sums + i * PANEL + column) + load(bias + PANEL + column);
                return silu(load(gates + column) + load(bias + column)) * up;
            });
        }
    };
    product.tiles(chunk, 2 * pair + 1, use, to);
}

template <typename T>
void linear(const PackedWeight<T>& weight, const PackedWeight<T>* next, Matrix<const T> x, Matrix<T> out,
            int num_threads) {
    if (x.num_rows == 0) return;
    num_threads = threads_for(weight, x.num_rows, num_threads);
    const Product<T> product(weight, next, x, num_threads);
    const std::int64_t tasks = num_tasks(weight);
    if (weight.activation != Activation::silu_gated) {
        share_out(product.num_chunks * tasks, num_threads, [&](std::int64_t task, int) {
            plain_linear(weight, product, task / tasks, task % tasks, out);
        });
        return;
    }
    const std::int64_t chunk_rows = divided_up(x.num_rows, product.num_chunks);
    float* gates = static_cast<float*>(std::malloc(num_threads * chunk_rows * PANEL * sizeof(float)));
    share_out(product.num_chunks * tasks, num_threads, [&](std::int64_t task, int thread) {
        gated_linear(weight, product, task / tasks, task % tasks, out, gates + thread * chunk_rows * PANEL);
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
    const std::int64_t panels = num_panels(weight), num_rows = x.num_rows;
    num_threads = threads_for(weight, num_rows, num_threads);
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    const Product<T> product(weight, nullptr, x, num_threads);
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
