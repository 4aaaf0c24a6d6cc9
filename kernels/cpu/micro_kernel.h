// The product of a few rows with a packed panel of columns, held in registers: what the linear layers and
// the attention of prompts are made of.
#pragma once

#include "simd.h"

namespace pagedbench::PAGEDBENCH_ISA {

// A panel holds VECS * LANES columns, unit by unit of depth:
//
//     panel[unit][column][element of the unit]
//
// so that a step in depth reads one piece of it, and one unit of every row.

/// Makes LANES rows the columns of a panel, which begin at `first` and whose units are `width` columns apart. A row that
/// is null becomes zeros.
template <typename T>
void pack_columns(const T* const* rows, std::int64_t num_elements, T* first, std::int64_t width) {
    constexpr int ELEMENTS = Unit<T>::ELEMENTS;
    for (std::int64_t done = 0; done < num_elements; done += LANES * ELEMENTS) {
        const std::int64_t left = num_elements - done;
        Vec block[LANES];
        for (int i = 0; i < LANES; ++i) {
            block[i] = !rows[i]                   ? Vec{}
                       : left >= LANES * ELEMENTS ? load_units(rows[i] + done)
                                                  : load_first_units(rows[i] + done, static_cast<int>(left));
        }
        transpose(block);
        for (int i = 0; i < LANES && i * ELEMENTS < left; ++i, first += width * ELEMENTS) {
            std::memcpy(first, &block[i], sizeof block[i]);
        }
    }
}

/// What a product asks the memory for while it computes, unless it is null.
struct Ahead {
    const void* lines = nullptr;     // one cache line a unit of depth, from here on
    const void* answer = nullptr;    // where its first row will be stored, a vector every few units
    std::int64_t answer_stride = 0;  // bytes from row to row
};

/// Units of depth for each vector of the answer: all are asked for in the 384 units of a part (product.h).
constexpr std::int64_t UNITS_PER_VEC = 16;

/// Rows are `row_stride` elements apart. `out`: [ROWS, VECS * LANES] floats, `out_stride` apart; the product is
/// added to it, or takes its place.
template <typename T, int ROWS, int VECS>
void multiply(const T* rows, std::int64_t row_stride, const T* panel, std::int64_t num_units, float* out,
              std::int64_t out_stride, Ahead ahead, bool is_added) {
    constexpr int ELEMENTS = Unit<T>::ELEMENTS;
    constexpr int STEP = VECS * LANES * ELEMENTS;
    const std::int64_t line = ahead.lines ? 64 : 0;
    const char* lines = static_cast<const char*>(ahead.lines ? ahead.lines : panel);
    const char* answer = static_cast<const char*>(ahead.answer ? ahead.answer : panel);
    Vec sums[ROWS][VECS];
    for (int row = 0; row < ROWS; ++row) {
        for (int vec = 0; vec < VECS; ++vec) sums[row][vec] = Vec{};
    }
    for (std::int64_t unit = 0, vec = 0; unit < num_units; ++vec) {
        prefetch(answer + vec % ROWS * ahead.answer_stride + vec / ROWS * (LANES * sizeof(T)));
        const std::int64_t end = ahead.answer && unit + UNITS_PER_VEC < num_units ? unit + UNITS_PER_VEC : num_units;
        for (; unit < end; ++unit, panel += STEP, lines += line) {
            Vec columns[VECS];
#pragma GCC unroll 4
            for (int i = 0; i < VECS; ++i) columns[i] = load_units(panel + i * LANES * ELEMENTS);
            prefetch(lines);
#pragma GCC unroll 8
            for (int row = 0; row < ROWS; ++row) {
                const Vec value = broadcast_unit(rows + row * row_stride + unit * ELEMENTS);
#pragma GCC unroll 4
                for (int i = 0; i < VECS; ++i) sums[row][i] = multiply_add<T>(value, columns[i], sums[row][i]);
            }
        }
    }
    for (int row = 0; row < ROWS; ++row) {
        for (int vec = 0; vec < VECS; ++vec) {
            float* target = out + row * out_stride + vec * LANES;
            store(is_added ? added<T>(load(target), sums[row][vec]) : sums[row][vec], target);
        }
    }
}

/// `multiply` for a number of rows that is known at run time only: 1 to MAX_ROWS.
template <typename T, int MAX_ROWS, int VECS>
inline void multiply_rows(int num_rows, const T* rows, std::int64_t row_stride, const T* panel,
                          std::int64_t num_units, float* out, std::int64_t out_stride, Ahead ahead = {},
                          bool is_added = false) {
    if constexpr (MAX_ROWS > 1) {
        if (num_rows < MAX_ROWS) {
            multiply_rows<T, MAX_ROWS - 1, VECS>(num_rows, rows, row_stride, panel, num_units, out, out_stride, ahead,
                                                 is_added);
            return;
        }
    }
    multiply<T, MAX_ROWS, VECS>(rows, row_stride, panel, num_units, out, out_stride, ahead, is_added);
}

}  // namespace pagedbench::PAGEDBENCH_ISA
