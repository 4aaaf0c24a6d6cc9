// The weight in 8 bits of one whose largest outputs are asked for, made when they first are.
#pragma once

#include <mutex>

#include "kernels.h"
#include "pages.h"

namespace pagedbench {

template <typename T>
class ScreenedWeight {
  public:
    /// False if the answer has to be computed without it. It is given up if that happens to a third of the calls.
    bool argmax(const PackedWeight<T>& weight, Matrix<const T> x, std::int64_t* out, int num_threads) {
        if (x.num_rows == 0) return false;
        const std::lock_guard lock(mutex_);
        if (!is_made_) make(weight, num_threads);
        is_made_ = true;
        if (!panels_.data()) return false;
        if (kernels<T>().screen.argmax(weight, screen_, x, out, num_threads)) {
            ++num_answers_;
            return true;
        }
        if (2 * ++num_failures_ > num_answers_) panels_ = Pages();
        return false;
    }

    /// Calls that it has answered.
    std::int64_t num_answers() const { return num_answers_; }

  private:
    void make(const PackedWeight<T>& weight, int num_threads) {
        const ScreenKernels<T>& own = kernels<T>().screen;
        const std::int64_t size = own.size(weight);
        if (size == 0) return;
        panels_ = Pages(size);
        columns_ = Pages(kernels<T>().padded_columns(weight) * own.column_bytes);
        screen_ = {{static_cast<std::int8_t*>(panels_.data()), nullptr, weight.in_features, weight.out_features,
                    weight.activation},
                   columns_.data()};
        if (!own.make(weight, screen_, num_threads)) panels_ = Pages();
    }

    std::mutex mutex_;
    bool is_made_ = false;
    std::int64_t num_answers_ = 0, num_failures_ = 0;
    Screen screen_ = {};
    Pages panels_, columns_;
};

}  // namespace pagedbench
