// A weight that was packed once, in memory of its own.
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "arguments.h"
#include "screened.h"

namespace pagedbench {

inline Activation activation_of(const std::string& name) {
    static const std::pair<const char*, Activation> all[] = {{"none", Activation::none},
                                                             {"relu", Activation::relu},
                                                             {"gelu", Activation::gelu},
                                                             {"gelu_tanh", Activation::gelu_tanh},
                                                             {"silu_gated", Activation::silu_gated}};
    for (const auto& [known, activation] : all) {
        if (name == known) return activation;
    }
    fail_value("unknown activation " + name + ": use none, relu, gelu, gelu_tanh or silu_gated");
}

template <typename T>
class Packed {
  public:
    Packed(const Array& weight, const std::optional<Array>& bias, Activation activation, int num_threads) {
        const auto from = matrix<const T>({"weight", weight});
        if (activation == Activation::silu_gated && from.num_rows % 2) {
            fail_value("a gated weight needs an even number of rows");
        }
        const T* from_bias = nullptr;
        if (bias) {
            if (bias->ndim() != 1 || static_cast<std::int64_t>(bias->shape(0)) != from.num_rows || bias->stride(0) != 1) {
                fail_value("bias must be contiguous, of shape [" + std::to_string(from.num_rows) + "]");
            }
            from_bias = static_cast<const T*>(bias->data());
        }
        weight_ = {nullptr, nullptr, from.num_columns, from.num_rows, activation};
        panels_ = Pages(kernels<T>().packed_size(weight_) * sizeof(T));
        bias_ = Pages(kernels<T>().padded_columns(weight_) * sizeof(float));
        weight_.panels = static_cast<T*>(panels_.data());
        weight_.bias = static_cast<float*>(bias_.data());
        nanobind::gil_scoped_release release;
        kernels<T>().pack(weight_, from, from_bias, num_threads);
    }

    std::int64_t out_features() const {
        return weight_.activation == Activation::silu_gated ? weight_.out_features / 2 : weight_.out_features;
    }

    const Pages& panels() const { return panels_; }
    std::int64_t num_screened() const { return screen_.num_answers(); }

    const PackedWeight<T>& weight() const { return weight_; }

    void product(const Array& x, const Array& out, int num_threads) const {
        const auto from = input(x);
        const auto to = matrix<T>({"out", out});
        if (to.num_rows != from.num_rows || to.num_columns != out_features()) {
            fail_value("out must have the shape [" + std::to_string(from.num_rows) + ", " + std::to_string(out_features()) + "]");
        }
        nanobind::gil_scoped_release release;
        kernels<T>().linear(weight_, nullptr, from, to, num_threads);
    }

    void argmax(const Array& x, const Array& out, int num_threads) const {
        const auto from = input(x);
        if (weight_.activation != Activation::none) fail_value("argmax is of a product without activation");
        auto* to = const_cast<std::int64_t*>(integers<std::int64_t>({"out", out}, {from.num_rows}));
        nanobind::gil_scoped_release release;
        if (!screen_.argmax(weight_, from, to, num_threads)) kernels<T>().argmax(weight_, from, to, num_threads);
    }

  private:
    Matrix<const T> input(const Array& x) const {
        const auto from = matrix<const T>({"x", x});
        if (from.num_columns != weight_.in_features) {
            fail_value("x has " + std::to_string(from.num_columns) + " columns, and the weight takes " +
                       std::to_string(weight_.in_features));
        }
        return from;
    }

    PackedWeight<T> weight_;
    Pages panels_, bias_;
    mutable ScreenedWeight<T> screen_;
};

/// Of either element type.
class Linear {
  public:
    Linear(const Array& weight, const std::optional<Array>& bias, const std::string& activation, int num_threads) {
        check_storage({{"weight", weight}});
        if (bias) check_storage({{"weight", weight}, {"bias", *bias}});
        check_threads(num_threads);
        if (is_float32(weight)) {
            float32_.emplace(weight, bias, activation_of(activation), num_threads);
        } else {
            if (weight.ndim() == 2 && weight.shape(1) % 2) fail_value("a bfloat16 weight needs an even number of columns");
            bfloat16_.emplace(weight, bias, activation_of(activation), num_threads);
        }
    }

    template <typename T>
    const std::optional<Packed<T>>& packed() const {
        if constexpr (std::is_same_v<T, float>) return float32_;
        else return bfloat16_;
    }

    std::int64_t out_features() const { return float32_ ? float32_->out_features() : bfloat16_->out_features(); }
    const Pages& panels() const { return float32_ ? float32_->panels() : bfloat16_->panels(); }
    std::int64_t num_bytes() const { return panels().num_bytes(); }
    std::int64_t num_screened() const { return float32_ ? float32_->num_screened() : bfloat16_->num_screened(); }

    void product(const Array& x, const Array& out, int num_threads) const {
        check({{"x", x}, {"out", out}}, num_threads);
        if (float32_) {
            float32_->product(x, out, num_threads);
        } else {
            bfloat16_->product(x, out, num_threads);
        }
    }

    void argmax(const Array& x, const Array& out, int num_threads) const {
        check({{"x", x}}, num_threads);
        if (float32_) {
            float32_->argmax(x, out, num_threads);
        } else {
            bfloat16_->argmax(x, out, num_threads);
        }
    }

  private:
    void check(std::initializer_list<Named> all, int num_threads) const {
        check_threads(num_threads);
        for (const Named& named : all) {
            check_device(named);
            if (float32_ ? !is_float32(named.array) : !is_bfloat16(named.array)) {
                fail_type(std::string(named.name) + " must have the dtype of the weight, " +
                          (float32_ ? "float32" : "bfloat16"));
            }
        }
    }

    std::optional<Packed<float>> float32_;
    std::optional<Packed<bfloat16>> bfloat16_;
};

}  // namespace pagedbench
