// The class Layers: all layers of a decoder, for tokens that decode. One call runs their kernels one after the other,
// and no Python between them, whose code and objects the kernels' data drives out of the caches each time.
#include <vector>

#include "addresses.h"
#include "bindings.h"
#include "packed.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

/// One layer. Norms have weight and bias, or null.
template <typename T>
struct Layer {
    const T *attention_weight, *attention_bias;
    const PackedWeight<T>*qkv, *out;
    const T *ffn_weight, *ffn_bias;
    const PackedWeight<T>*up, *down;
};

/// What an iteration brings, checked.
template <typename T>
struct Tokens {
    Matrix<T> hidden;
    std::optional<Matrix<const T>> delta;
    Matrix<T> out;
    const std::int64_t* slots;
    Placement placement;
    const std::int32_t* context_lens;
    const float *cosine, *sine;  // null without a rotary embedding
    float scale;
    int num_threads;
};

template <typename T>
std::int64_t num_outputs(const PackedWeight<T>& weight) {
    return weight.activation == Activation::silu_gated ? weight.out_features / 2 : weight.out_features;
}

/// The first `num_elements` of memory that the calling thread keeps for its next call.
template <typename T>
T* scratch(std::int64_t num_elements) {
    thread_local Pages pages;
    const std::size_t num_bytes = num_elements * sizeof(T);
    if (pages.num_bytes() < num_bytes) pages = Pages(num_bytes);
    return static_cast<T*>(pages.data());
}

template <typename T>
class Stack {
  public:
    Stack(const nb::list& parts, double epsilon, bool is_centred)
        : epsilon_(static_cast<float>(epsilon)), is_centred_(is_centred) {
        for (nb::handle item : parts) {
            const auto part = nb::cast<nb::tuple>(item);
            const auto linear = [&](int i) { return &weight_of<T>(nb::cast<const Linear&>(part[i])); };
            const PackedWeight<T>* qkv = linear(2);
            const auto norm = [&](int i) { return vector_of(part[i], qkv->in_features); };
            layers_.push_back({norm(0), norm(1), qkv, linear(3), norm(4), norm(5), linear(6), linear(7)});
            check(layers_.back());
        }
    }

    std::int64_t size() const { return static_cast<std::int64_t>(layers_.size()); }
    std::int64_t hidden_size() const { return layers_[0].qkv->in_features; }
    std::int64_t attention_size() const { return layers_[0].out->in_features; }
    std::int64_t qkv_size() const { return layers_[0].qkv->out_features; }

    /// `keys`, `values`: the caches of every layer.
    template <typename C>
    void run(const Tokens<T>& tokens, const std::vector<Rows<C>>& keys, const std::vector<Rows<C>>& values) const {
        const std::int64_t num = tokens.hidden.num_rows, ffn = num_outputs(*layers_[0].up);
        T* memory = scratch<T>(num * (hidden_size() + qkv_size() + attention_size() + ffn));
        const auto take = [&](std::int64_t size) {
            const Matrix<T> taken = {memory, num, size, size};
            memory += num * size;
            return taken;
        };
        const Matrix<T> normed = take(hidden_size()), qkv = take(qkv_size()), attention = take(attention_size());
        const Matrix<T> up = take(ffn);
        std::optional<Matrix<const T>> delta = tokens.delta;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const Layer<T>& layer = layers_[i];
            norm(tokens, delta, layer.attention_weight, layer.attention_bias, normed);
            multiply(*layer.qkv, layer.out, normed, qkv, tokens.num_threads);
            attend(tokens, qkv, keys[i], values[i], attention);
            multiply(*layer.out, layer.up, attention, tokens.out, tokens.num_threads);
            delta = constant(tokens.out);
            norm(tokens, delta, layer.ffn_weight, layer.ffn_bias, normed);
            multiply(*layer.up, layer.down, normed, up, tokens.num_threads);
            multiply(*layer.down, i + 1 < layers_.size() ? layers_[i + 1].qkv : nullptr, up, tokens.out, tokens.num_threads);
        }
    }

  private:
    template <typename U>
    static const PackedWeight<U>& weight_of(const Linear& linear) {
        if (!linear.packed<U>()) fail_type("the weights of all layers must have one dtype");
        return linear.packed<U>()->weight();
    }

    static const T* vector_of(nb::handle object, std::int64_t size) {
        if (object.is_none()) return nullptr;
        const auto array = nb::cast<Array>(object);
        check_device({"norm", array});
        if ((std::is_same_v<T, float> ? !is_float32(array) : !is_bfloat16(array)) || array.ndim() != 1 ||
            array.shape(0) != size || array.stride(0) != 1) {
            fail_value("norms must be contiguous, in the dtype of the weights, of shape [" + std::to_string(size) + "]");
        }
        return static_cast<const T*>(array.data());
    }

    void check(const Layer<T>& layer) const {
        const Layer<T>& first = layers_[0];
        const std::int64_t hidden = first.qkv->in_features;
        if (layer.qkv->in_features != hidden || layer.out->out_features != hidden || layer.up->in_features != hidden ||
            layer.down->out_features != hidden || layer.down->in_features != num_outputs(*layer.up) ||
            layer.qkv->out_features != first.qkv->out_features || layer.out->in_features != first.out->in_features ||
            layer.up->out_features != first.up->out_features) {
            fail_value("the weights of the layers do not fit together");
        }
    }

    static Matrix<const T> constant(const Matrix<T>& matrix) {
        return {matrix.data, matrix.num_rows, matrix.num_columns, matrix.stride};
    }

    void norm(const Tokens<T>& tokens, const std::optional<Matrix<const T>>& delta, const T* weight, const T* bias,
              const Matrix<T>& out) const {
        kernels<T>().norm({out, tokens.hidden, delta ? &*delta : nullptr, weight, bias, epsilon_, is_centred_,
                           tokens.num_threads});
    }

    static void multiply(const PackedWeight<T>& weight, const PackedWeight<T>* next, const Matrix<T>& x,
                         const Matrix<T>& out, int num_threads) {
        kernels<T>().linear(weight, next, constant(x), out, num_threads);
    }

    template <typename C>
    static void attend(const Tokens<T>& tokens, const Matrix<T>& qkv, const Rows<C>& keys, const Rows<C>& values,
                       const Matrix<T>& attention) {
        const std::int64_t head_dim = keys.head_dim - SCALE_LEN<C>, num_kv_heads = keys.num_heads;
        const std::int64_t num_heads = attention.num_columns / head_dim, num = qkv.num_rows;
        const Rows<T> query = {qkv.data, num, num_heads, head_dim, qkv.stride};
        const Rows<T> key = {query.data + num_heads * head_dim, num, num_kv_heads, head_dim, qkv.stride};
        const Rows<const T> value = {key.data + num_kv_heads * head_dim, num, num_kv_heads, head_dim, qkv.stride};
        const auto& kernels = cache_kernels<T>(keys.data);
        const Write<T, C> write = {key, value, keys, values, tokens.slots, tokens.num_threads};
        if (tokens.cosine) {
            kernels.rotate_and_write_kv(write, {query, tokens.cosine, tokens.sine});
        } else {
            kernels.write_kv(write);
        }
        kernels.decode({{attention.data, num, num_heads, head_dim, attention.stride},
                        {query.data, num, num_heads, head_dim, query.stride},
                        {keys.data, keys.num_rows, num_kv_heads, head_dim + SCALE_LEN<C>, keys.stride},
                        {values.data, values.num_rows, num_kv_heads, head_dim + SCALE_LEN<C>, values.stride},
                        tokens.placement, tokens.context_lens, window_of(std::nullopt, 0), {tokens.scale, 0.0f, nullptr},
                        tokens.num_threads});
    }

    std::vector<Layer<T>> layers_;
    float epsilon_;
    bool is_centred_;
};

/// Of either element type.
class Layers {
  public:
    Layers(nb::list parts, double epsilon, bool is_centred) : parts_(std::move(parts)) {
        if (parts_.size() == 0) fail_value("there must be at least one layer");
        if (nb::cast<const Linear&>(nb::cast<nb::tuple>(parts_[0])[2]).packed<float>()) {
            float32_.emplace(parts_, epsilon, is_centred);
        } else {
            bfloat16_.emplace(parts_, epsilon, is_centred);
        }
    }

    void decode(const Array& hidden, const std::optional<Array>& delta, const Array& out, const std::vector<Array>& keys,
                const std::vector<Array>& values, const Array& slots, const Array& where,
                std::optional<std::int64_t> block_size, const std::optional<Array>& first_positions,
                const Array& context_lens, const std::optional<Array>& cosine, const std::optional<Array>& sine,
                double scale, int num_threads) const {
        check_threads(num_threads);
        if (keys.empty()) fail_value("there must be caches");
        with_types({{"hidden", hidden}, {"out", out}, {"delta", delta ? *delta : hidden}}, {{"keys", keys[0]}},
                   [&](auto type, auto cached) {
                       using T = decltype(type);
                       using C = decltype(cached);
                       const auto& stack = stack_of<T>();
                       const auto key_rows = caches<T, C>(stack, keys, keys[0]), value_rows = caches<T, C>(stack, values, keys[0]);
                       if (!have_same_shape(key_rows[0], value_rows[0])) fail_value("keys and values must have the same shape");
                       Tokens<T> tokens = {matrix<T>({"hidden", hidden}), std::nullopt, matrix<T>({"out", out}),
                                           nullptr, {}, nullptr, nullptr, nullptr, static_cast<float>(scale), num_threads};
                       const std::int64_t num = tokens.hidden.num_rows, num_slots = key_rows[0].num_rows;
                       const std::int64_t half = (key_rows[0].head_dim - SCALE_LEN<C>) / 2;
                       if (delta) tokens.delta = matrix<const T>({"delta", *delta});
                       check_like(stack, tokens);
                       tokens.slots = slots_of(slots, num, num_slots);
                       tokens.context_lens = integers<std::int32_t>({"context_lens", context_lens}, {num});
                       const Contexts contexts = {num, tokens.context_lens, nullptr, nullptr, window_of(std::nullopt, 0)};
                       tokens.placement = placed({where, block_size, first_positions}, contexts, num_slots);
                       if (cosine && sine) {
                           tokens.cosine = floats({"cosine", *cosine}, {num, half});
                           tokens.sine = floats({"sine", *sine}, {num, half});
                       }
                       nb::gil_scoped_release release;
                       stack.template run<C>(tokens, key_rows, value_rows);
                   });
    }

  private:
    template <typename T>
    const Stack<T>& stack_of() const {
        const std::optional<Stack<T>>* found;
        if constexpr (std::is_same_v<T, float>) found = &float32_;
        else found = &bfloat16_;
        if (!*found) fail_type("hidden must have the dtype of the weights");
        return **found;
    }

    template <typename T>
    static void check_like(const Stack<T>& stack, const Tokens<T>& tokens) {
        const auto fits = [&](const auto& matrix) {
            return matrix.num_rows == tokens.hidden.num_rows && matrix.num_columns == stack.hidden_size();
        };
        if (!fits(tokens.hidden) || !fits(tokens.out) || (tokens.delta && !fits(*tokens.delta))) {
            fail_value("hidden, delta and out must have the shape [num_tokens, " + std::to_string(stack.hidden_size()) + "]");
        }
    }

    /// A cache for each layer, all of one shape, that of the weights' heads.
    template <typename T, typename C>
    static std::vector<Rows<C>> caches(const Stack<T>& stack, const std::vector<Array>& arrays, const Array& first) {
        if (static_cast<std::int64_t>(arrays.size()) != stack.size()) fail_value("there must be a cache for each layer");
        std::vector<Rows<C>> all;
        for (const Array& array : arrays) {
            check_device({"cache", array});
            if (array.dtype() != first.dtype()) fail_type("all caches must have one dtype");
            all.push_back(rows<C>({"cache", array}));
            if (!have_same_shape(all.back(), all.front())) fail_value("the caches of all layers must have the same shape");
        }
        const std::int64_t head_dim = all[0].head_dim - SCALE_LEN<C>;
        if (head_dim < 1 || stack.attention_size() % head_dim != 0 ||
            stack.attention_size() / head_dim % all[0].num_heads != 0 ||
            stack.qkv_size() != stack.attention_size() + 2 * all[0].num_heads * head_dim) {
            fail_value("the caches do not have the heads of the weights");
        }
        return all;
    }

    nb::list parts_;  // keeps the weights
    std::optional<Stack<float>> float32_;
    std::optional<Stack<bfloat16>> bfloat16_;
};

}  // namespace

void bind_layers(nb::module_& module) {
    nb::class_<Layers>(module, "Layers")
        .def(nb::init<nb::list, double, bool>(), nb::arg("parts"), nb::arg("epsilon"), nb::arg("is_centred"))
        .def("decode", &Layers::decode, nb::arg("hidden").noconvert(), nb::arg("delta").noconvert().none(),
             nb::arg("out").noconvert(), nb::arg("keys").noconvert(), nb::arg("values").noconvert(),
             nb::arg("slots").noconvert(), nb::arg("where").noconvert(), nb::arg("block_size").none(),
             nb::arg("first_positions").noconvert().none(), nb::arg("context_lens").noconvert(),
             nb::arg("cosine").noconvert().none(), nb::arg("sine").noconvert().none(), nb::arg("scale"),
             nb::arg("num_threads"));
}

}  // namespace pagedbench
