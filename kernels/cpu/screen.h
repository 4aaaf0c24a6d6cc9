// The largest output of every row, found with a copy of the weight in 8 bits, whose products take half the time of
// those of bfloat16 and a quarter of those of float32. They leave a few columns that may be the largest; these are
// computed with the weight itself, so the answer is that of `argmax`.
//
// A column w is scale * q + e and a row x is step * u + d, with q and u in 8 bits. Then w.x - scale * step * q.u
// = w.d + e.(x - d), which is at most |w| |d| + |e| |x - d|.
#pragma once

#include <memory>
#include <vector>

#include "linear.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Smaller weights are in the cache, or take no time.
constexpr std::int64_t MIN_SCREEN_SIZE = 1 << 20;

/// So that sums of products of 8 bits fit 32.
constexpr std::int64_t MAX_SCREEN_DEPTH = 1 << 16;

/// Bytes of the weight in 8 bits; 0 where it would not help.
template <typename T>
std::int64_t screen_size(const PackedWeight<T>& weight) {
#if defined(__AVX512VNNI__)
    const bool is_large = weight.out_features * weight.in_features >= MIN_SCREEN_SIZE;
    if (is_large && weight.in_features <= MAX_SCREEN_DEPTH && weight.activation == Activation::none) {
        return num_panels(weight) * panel_size<std::int8_t>(weight.in_features);
    }
#endif
    static_cast<void>(weight);
    return 0;
}

#if defined(__AVX512VNNI__)

/// Squares of smaller and larger numbers are not exact enough for the bounds.
constexpr float SMALLEST = 1e-12f, LARGEST = 1e12f;

inline bool any_reaches(Vec x, float reach) { return _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(reach), _CMP_GE_OQ); }

inline Vec square_root(Vec x) { return (Vec)_mm512_sqrt_ps((__m512)x); }

/// One element of the depth of LANES columns, from their first in a packed panel.
template <typename T>
inline Vec elements(const T* columns, std::int64_t index) {
    const T* unit = columns + index / Unit<T>::ELEMENTS * PANEL * Unit<T>::ELEMENTS;
    if constexpr (Unit<T>::ELEMENTS == 1) return load(unit);
    const Bits both = (Bits)load_units(unit);
    return (Vec)(index % 2 ? both & 0xFFFF0000u : both << 16);
}

/// The first element of LANES columns; vectors of columns are numbered through all panels.
template <typename T>
inline T* columns_at(const PackedWeight<T>& weight, std::int64_t vec) {
    return weight.panels + vec / PANEL_VECS * panel_size<T>(weight.in_features) +
           vec % PANEL_VECS * LANES * Unit<T>::ELEMENTS;
}

/// What is known of LANES columns of a weight in 8 bits. The norms are those of the column and of its error.
struct Columns {
    Vec scale, norm, error_norm, bias;
    Vec bias_error;  // of sums with the bias in float
    Ints offset;     // 128 times the sum of the elements
};

/// Rounds LANES columns.
template <typename T>
Columns round_columns(const PackedWeight<T>& weight, const Screen& screen, std::int64_t vec) {
    const T* from = columns_at(weight, vec);
    std::int8_t* to = columns_at(screen.weight, vec);
    Vec most = {}, squares = {}, errors = {};
    for (std::int64_t i = 0; i < weight.in_features; ++i) {
        const Vec value = elements(from, i);
        most = maximum(absolute(value), most);
        squares += value * value;
    }
    const Vec bias = load(weight.bias + vec * LANES);
    Columns columns = {most / 127.0f, square_root(squares) * 1.001f, {}, bias, absolute(bias) * 0x1p-21f, {}};
    columns.norm = select(most > 0.0f, maximum(columns.norm, broadcast(SMALLEST)), squares);  // zero, or not a number
    const Vec inverse = select(most > 0.0f, 127.0f / most, Vec{});
    for (std::int64_t unit = 0; unit < num_units<std::int8_t>(weight.in_features); ++unit) {
        Bits bytes = {};
        for (std::int64_t i = 4 * unit; i < 4 * unit + 4 && i < weight.in_features; ++i) {
            const Vec value = elements(from, i), whole = rounded(value * inverse);
            const Vec error = value - columns.scale * whole;
            const Ints integer = __builtin_convertvector(whole, Ints);
            errors += error * error;
            columns.offset += 128 * integer;
            bytes |= ((Bits)integer & 0xFFu) << static_cast<unsigned>(8 * (i % 4));
        }
        std::memcpy(to + unit * PANEL * 4, &bytes, sizeof bytes);
    }
    columns.error_norm = square_root(errors) * 1.001f;
    for (int i = 0; i < LANES; ++i) {
        if (vec * LANES + i >= weight.out_features) columns.bias[i] = -__builtin_inff();  // padding is never the largest
    }
    return columns;
}

/// Makes the weight in 8 bits. False if it holds what is too small or too large for the bounds.
template <typename T>
bool make_screen(const PackedWeight<T>& weight, const Screen& screen, int num_threads) {
    Columns* columns = static_cast<Columns*>(screen.columns);
    const std::int64_t num_vecs = num_panels(weight) * PANEL_VECS;
    share_out(num_vecs, num_threads,
              [&](std::int64_t vec, int) { columns[vec] = round_columns(weight, screen, vec); });
    for (std::int64_t vec = 0; vec < num_vecs; ++vec) {
        for (int i = 0; i < LANES; ++i) {
            const float norm = columns[vec].norm[i];
            const bool is_column = vec * LANES + i < weight.out_features;
            if (norm != 0.0f && !(norm > SMALLEST && norm < LARGEST)) return false;
            if (is_column && !std::isfinite(columns[vec].bias[i])) return false;
        }
    }
    return true;
}

/// A row in 8 bits: the factors of its products, and of the norms of a column and of its error.
struct ScreenedRow {
    float step, of_norm, of_error;
};

/// False if the row is too small or too large for the bounds, or not a number.
template <typename T>
bool round_row(const T* x, std::int64_t size, std::int8_t* to, ScreenedRow& row) {
    Vec most = {}, squares = {}, errors = {};
    in_vectors(size, [&](std::int64_t i, int count) {
        const Vec value = load_count(x + i, count);
        most = maximum(absolute(value), most);
        squares += value * value;
    });
    const float norm = std::sqrt(total(squares)), step = largest(most) / 127.0f;
    if (!(norm > SMALLEST && norm < LARGEST)) return false;
    in_vectors(size, [&](std::int64_t i, int count) {
        const Vec value = load_count(x + i, count), whole = rounded(value * (1.0f / step));
        const Vec error = value - step * whole;
        errors += error * error;
        const Bytes bytes = __builtin_convertvector(__builtin_convertvector(whole, Ints) + 128, Bytes);
        std::memcpy(to + i, &bytes, sizeof bytes);
    });
    const float error = std::sqrt(total(errors)) * 1.001f;
    const float rounding = static_cast<float>(size + 8) * 0x1p-23f;  // of the sums in float, a share of |w| |x|
    row = {step, error + rounding * norm, norm * 1.001f + error};
    return true;
}

/// A vector of columns, one of which may be the largest: none of them is above `upper`.
struct Candidate {
    std::int64_t vec;
    float upper;
};

/// The candidates that a thread found for a row.
class Candidates {
  public:
    static constexpr int MOST = 256;

    explicit Candidates(Candidate* room = nullptr) : all_(room) {}

    const Candidate* begin() const { return all_; }
    const Candidate* end() const { return all_ + count_; }

    /// What is below it is less than the largest output, even if both are rounded to bfloat16, which moves each by a 256th
    /// at most. Beyond any number if some candidates had no room.
    float reach() const { return reach_; }
    bool is_complete() const { return reach_ < __builtin_inff(); }

    /// One of the vector's outputs is at least `lower`.
    void take(std::int64_t vec, float upper, float lower) {
        reach_ = std::fmax(reach_, lower - std::fabs(lower) * 0x1.1p-7f);
        if (count_ == MOST) drop();
        if (count_ == MOST) {
            reach_ = __builtin_inff();
        } else {
            all_[count_++] = {vec, upper};
        }
    }

  private:
    /// Those that are out of reach by now.
    void drop() {
        int kept = 0;
        for (int i = 0; i < count_; ++i) {
            if (all_[i].upper >= reach_) all_[kept++] = all_[i];
        }
        count_ = kept;
    }

    Candidate* all_;
    int count_ = 0;
    float reach_ = -__builtin_inff();
};

inline void screen_panel(const Screen& screen, const Product<std::int8_t>& product, std::int64_t chunk,
                         std::int64_t panel, const ScreenedRow* rows, Candidates* found) {
    const Columns* columns = static_cast<const Columns*>(screen.columns) + panel * PANEL_VECS;
    product.tiles(chunk, panel, [&](std::int64_t first, int count, const Tile& sums) {
        for (int i = 0; i < count; ++i) {
            const ScreenedRow row = rows[first + i];
            Candidates& own = found[first + i];
            Vec values[PANEL_VECS], bounds[PANEL_VECS];
            bool is_near = false;
            for (int vec = 0; vec < PANEL_VECS; ++vec) {
                const Columns& of = columns[vec];
                const Ints sum = (Ints)load(sums + i * PANEL + vec * LANES) - of.offset;
                values[vec] = __builtin_convertvector(sum, Vec) * (of.scale * row.step) + of.bias;
                bounds[vec] = of.norm * row.of_norm + (of.error_norm * row.of_error + of.bias_error);
                is_near |= any_reaches(values[vec] + bounds[vec], own.reach());
            }
            if (!is_near) continue;
            for (int vec = 0; vec < PANEL_VECS; ++vec) {
                const float upper = largest(values[vec] + bounds[vec]);
                if (upper < own.reach()) continue;
                own.take(panel * PANEL_VECS + vec, upper, largest(values[vec] - bounds[vec]));
            }
        }
    });
}

/// The outputs of LANES columns, with the same bits as those of a product.
template <typename T>
Vec outputs(const PackedWeight<T>& weight, const T* x, std::int64_t vec) {
    const T* columns = columns_at(weight, vec);
    const std::int64_t units = num_units<T>(weight.in_features);
    Vec sums = {};
    for (std::int64_t start = 0; start < units; start += PART_UNITS) {
        const std::int64_t end = start + PART_UNITS < units ? start + PART_UNITS : units;
        Vec part = {};
        for (std::int64_t unit = start; unit < end; ++unit) {
            const T* here = columns + unit * PANEL * Unit<T>::ELEMENTS;
            prefetch(here + 32 * PANEL * Unit<T>::ELEMENTS);
            part = multiply_add<T>(broadcast_unit(x + unit * Unit<T>::ELEMENTS), load_units(here), part);
        }
        sums = start > 0 ? sums + part : part;
    }
    return sums + load(weight.bias + vec * LANES);
}

/// The best of the candidates that threads found for one row, which lie `distance` apart. Mostly the one with the
/// largest bound is it, and then few others are within reach.
template <typename T>
std::int64_t best_of(const PackedWeight<T>& weight, const T* x, const Candidates* found, std::int64_t distance,
                     int num_threads) {
    const auto each = [&](const auto& use) {
        for (int thread = 0; thread < num_threads; ++thread) {
            for (const Candidate& candidate : found[thread * distance]) use(candidate);
        }
    };
    Candidate likely = {0, -__builtin_inff()};
    each([&](const Candidate& candidate) {
        if (candidate.upper > likely.upper) likely = candidate;
    });
    Best best = {-__builtin_inff(), 0};
    const auto compute = [&](std::int64_t vec) {
        T rounded[LANES];
        store(outputs(weight, x, vec), rounded);
        const Vec values = load(rounded);
        for (int i = 0; i < LANES && vec * LANES + i < weight.out_features; ++i) best.take(values[i], vec * LANES + i);
    };
    compute(likely.vec);
    each([&](const Candidate& candidate) {
        const float reach = best.value - std::fabs(best.value) * 0x1p-8f;  // `best` is rounded, `upper` is not
        if (candidate.vec != likely.vec && candidate.upper >= reach) compute(candidate.vec);
    });
    return best.index;
}

/// `argmax`. False, and `out` means nothing, if there are too many candidates, or numbers too small or too large.
template <typename T>
bool screened_argmax(const PackedWeight<T>& weight, const Screen& screen, Matrix<const T> x, std::int64_t* out,
                     int num_threads) {
    const std::int64_t num_rows = x.num_rows, panels = num_panels(weight);
    const std::int64_t stride = divided_up(weight.in_features, LANES) * LANES;
    num_threads = num_threads < MAX_THREADS ? num_threads : MAX_THREADS;
    const std::unique_ptr<std::int8_t[]> bytes(new std::int8_t[num_rows * stride]);
    std::vector<ScreenedRow> rows(num_rows);
    for (std::int64_t row = 0; row < num_rows; ++row) {
        if (!round_row(x.row(row), weight.in_features, bytes.get() + row * stride, rows[row])) return false;
    }
    const std::unique_ptr<Candidate[]> room(new Candidate[num_threads * num_rows * Candidates::MOST]);
    std::vector<Candidates> found;
    for (std::int64_t i = 0; i < num_threads * num_rows; ++i) found.emplace_back(room.get() + i * Candidates::MOST);
    const Product<std::int8_t> product(screen.weight, nullptr, {bytes.get(), num_rows, weight.in_features, stride},
                                       num_threads);
    share_out(product.num_chunks * panels, num_threads, [&](std::int64_t task, int thread) {
        screen_panel(screen, product, task / panels, task % panels, rows.data(), found.data() + thread * num_rows);
    });
    for (const Candidates& own : found) {
        if (!own.is_complete()) return false;
    }
    share_out(num_rows, num_threads, [&](std::int64_t row, int) {
        out[row] = best_of(weight, x.row(row), found.data() + row, num_rows, num_threads);
    });
    return true;
}

#endif

}  // namespace pagedbench::PAGEDBENCH_ISA
