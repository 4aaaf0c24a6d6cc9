// Attention of one new token a sequence (SOSP'23, section 4.1), over blocks or extents alike: the placement
// gives addresses, and everything behind them is the same, so both give the same bits.
//
// A work item is a part of what a sequence's token sees, PART_LEN tokens, and some of its KV heads. A window and
// sinks leave a gap (kernels.h), which is not walked over: behind the addresses nobody knows of it. Parts are the
// same whatever the number of threads, and are put together in order, so the result is the same too.
#pragma once

#include <cstdlib>

#include "softmax.h"
#include "threads.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Tokens folded into the softmax at once.
constexpr int TILE_LEN = 32;

/// Tokens of one work item.
constexpr std::int64_t PART_LEN = 512;

/// Items a thread should get, so that long sequences even out.
constexpr std::int64_t ITEMS_PER_THREAD = 8;

/// Addresses of a tile's tokens: their first KV head of the item. Up to a multiple of LANES the last repeats.
template <typename T>
struct Tokens {
    int count = 0;
    const T* keys[TILE_LEN];
    const T* values[TILE_LEN];
};

/// Asks for one head of token `index` of those whose keys or values are at `addresses`.
template <typename T>
[[gnu::always_inline]] inline void fetch(const T* const* addresses, int index, int count, std::int64_t offset,
                                         int head_dim) {
    if (index >= count) return;
    const char* first = reinterpret_cast<const char*>(addresses[index] + offset);
    for (int byte = 0; byte < head_dim * static_cast<int>(sizeof(T)); byte += 64) prefetch(first + byte);
}

/// scores[i] = query · keys[i] for LANES tokens from `first` on.
template <typename T>
[[gnu::always_inline]] inline void dot(const T* query, const Tokens<T>& tokens, int first, std::int64_t offset,
                                       int head_dim, float* scores) {
    constexpr int STEP = LANES * Unit<T>::ELEMENTS;
    const int whole = head_dim / STEP * STEP, rest = head_dim - whole;
    Vec sums[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        const T* key = tokens.keys[first + i] + offset;
        sums[i] = Vec{};
#pragma GCC unroll 8
        for (int element = 0; element < whole; element += STEP) {
            sums[i] = multiply_add<T>(load_units(query + element), load_units(key + element), sums[i]);
        }
        if (rest) {
            sums[i] = multiply_add<T>(load_first_units(query + whole, rest), load_first_units(key + whole, rest), sums[i]);
        }
    }
    store(totals(sums), scores);
}

/// sums = sums * factor + weights[i] * values[i] over the tile's tokens, VECS vectors of the head.
template <typename T, int VECS>
inline void add_values(const float* weights, const Tokens<T>& tokens, const Tokens<T>& next, std::int64_t offset,
                       float factor, float* sums) {
    Vec parts[VECS];
    for (int vec = 0; vec < VECS; ++vec) parts[vec] = load(sums + vec * LANES) * factor;
    for (int i = 0; i < tokens.count; ++i) {
        fetch(next.values, i, next.count, offset, VECS * LANES);
        const Vec weight = broadcast(weights[i]);
        const T* value = tokens.values[i] + offset;
#pragma GCC unroll 4
        for (int vec = 0; vec < VECS; ++vec) parts[vec] = weight * load(value + vec * LANES) + parts[vec];
    }
    for (int vec = 0; vec < VECS; ++vec) store(parts[vec], sums + vec * LANES);
}

template <typename T>
inline void add_rest(const float* weights, const Tokens<T>& tokens, std::int64_t offset, int rest, float factor,
                     float* sums) {
    Vec part = load(sums) * factor;
    for (int i = 0; i < tokens.count; ++i) {
        part = broadcast(weights[i]) * load_first(tokens.values[i] + offset, rest) + part;
    }
    store(part, sums);
}

template <typename T>
[[gnu::always_inline]] inline void add_head(const float* weights, const Tokens<T>& tokens, const Tokens<T>& next,
                                            std::int64_t offset, int head_dim, float factor, float* sums) {
    int element = 0;
    for (; element + 4 * LANES <= head_dim; element += 4 * LANES) {
        add_values<T, 4>(weights, tokens, next, offset + element, factor, sums + element);
    }
    for (; element + LANES <= head_dim; element += LANES) {
        add_values<T, 1>(weights, tokens, next, offset + element, factor, sums + element);
    }
    if (element < head_dim) {
        add_rest(weights, tokens, offset + element, head_dim - element, factor, sums + element);
    }
}

/// The softmax so far of an item's query heads.
struct Part {
    Running* running;  // [num_heads]
    float* sums;       // [num_heads, padded head_dim]
};

/// One decode, cut into items.
template <typename T>
class Decoding {
  public:
    explicit Decoding(const Decode<T>& decode) : decode_(decode) {
        num_kv_heads_ = decode.keys.num_heads;
        group_ = decode.query.num_heads / num_kv_heads_;
        head_dim_ = static_cast<int>(decode.query.head_dim);
        padded_dim_ = (head_dim_ + LANES - 1) / LANES * LANES;
        num_sequences_ = decode.query.num_rows;
        attend_head_ = head_dim_ == 64    ? &Decoding::attend_head<64>
                       : head_dim_ == 128 ? &Decoding::attend_head<128>
                                          : &Decoding::attend_head<0>;
        first_part_ = static_cast<std::int64_t*>(std::malloc((num_sequences_ + 1) * sizeof(std::int64_t)));
        first_part_[0] = 0;
        for (std::int64_t i = 0; i < num_sequences_; ++i) {
            first_part_[i + 1] = first_part_[i] + (num_seen(i) + PART_LEN - 1) / PART_LEN;
        }
        const std::int64_t num_heads = decode.query.num_heads, num_parts = first_part_[num_sequences_];
        running_ = static_cast<Running*>(std::malloc(num_parts * num_heads * sizeof(Running)));
        sums_ = static_cast<float*>(std::aligned_alloc(64, (num_parts * num_heads * padded_dim_ * 4 + 63) / 64 * 64));
    }

    Decoding(const Decoding&) = delete;
    ~Decoding() {
        std::free(first_part_);
        std::free(running_);
        std::free(sums_);
    }

    void run() {
        const std::int64_t num_parts = first_part_[num_sequences_];
        if (num_parts > 0) {
            const std::int64_t wanted = decode_.num_threads > 1 ? ITEMS_PER_THREAD * decode_.num_threads : 1;
            const std::int64_t cuts = (wanted + num_parts - 1) / num_parts;
            share_ = cuts < num_kv_heads_ ? (num_kv_heads_ + cuts - 1) / cuts : 1;
            items_per_part_ = (num_kv_heads_ + share_ - 1) / share_;
            share_out(num_parts * items_per_part_, decode_.num_threads, [&](std::int64_t index, int) { attend(index); });
        }
        for (std::int64_t i = 0; i < num_sequences_; ++i) finish(i);
    }

  private:
    /// `start` and `stop` number the tokens without the gap.
    struct Item {
        std::int64_t part, sequence, start, stop, kv_head, num_kv_heads;
    };

    Gap gap(std::int64_t sequence) const { return decode_.window.gap(decode_.context_lens[sequence] - 1); }
    std::int64_t num_seen(std::int64_t sequence) const {
        return decode_.context_lens[sequence] - gap(sequence).length;
    }

    Item item(std::int64_t index) const {
        const std::int64_t part = index / items_per_part_, sequence = sequence_of(part);
        const std::int64_t start = (part - first_part_[sequence]) * PART_LEN;
        const std::int64_t end = num_seen(sequence);
        const std::int64_t kv_head = index % items_per_part_ * share_, rest = num_kv_heads_ - kv_head;
        return {part, sequence, start, start + PART_LEN < end ? start + PART_LEN : end, kv_head,
                rest < share_ ? rest : share_};
    }

    std::int64_t sequence_of(std::int64_t part) const {
        std::int64_t low = 0, high = num_sequences_;
        while (high - low > 1) {
            const std::int64_t middle = (low + high) / 2;
            (first_part_[middle] <= part ? low : high) = middle;
        }
        return low;
    }

    Part part_of(std::int64_t part) const {
        const std::int64_t num_heads = decode_.query.num_heads;
        return {running_ + part * num_heads, sums_ + part * num_heads * padded_dim_};
    }

    void find(const Item& item, std::int64_t position, Tokens<T>& tokens) const {
        std::int64_t slots[TILE_LEN];
        tokens.count = static_cast<int>(item.stop - position < TILE_LEN ? item.stop - position : TILE_LEN);
        decode_.placement.slots(item.sequence, position, tokens.count, gap(item.sequence), slots);
        for (int i = 0; i < tokens.count; ++i) {
            tokens.keys[i] = decode_.keys.row(slots[i]) + item.kv_head * head_dim_;
            tokens.values[i] = decode_.values.row(slots[i]) + item.kv_head * head_dim_;
        }
        for (int i = tokens.count; i % LANES; ++i) tokens.keys[i] = tokens.keys[i - 1];
    }

    /// While a tile is computed, the next one is fetched: behind the last, the first of the next item.
    void attend(std::int64_t index) {
        const Item now = item(index);
        const Part part = part_of(now.part);
        for (std::int64_t head = now.kv_head * group_; head < (now.kv_head + now.num_kv_heads) * group_; ++head) {
            part.running[head] =  // sink logits count once
                now.part == first_part_[now.sequence] ? before_tokens(decode_.scores, head) : NOTHING_SEEN;
            std::memset(part.sums + head * padded_dim_, 0, padded_dim_ * sizeof(float));
        }
        Tokens<T> buffers[2];
        Tokens<T>*tokens = buffers, *next = buffers + 1;
        find(now, now.start, *tokens);
        for (std::int64_t position = now.start; position < now.stop; position += TILE_LEN) {
            next->count = 0;
            if (position + TILE_LEN < now.stop) {
                find(now, position + TILE_LEN, *next);
            } else if (index + 1 < first_part_[num_sequences_] * items_per_part_) {
                const Item following = item(index + 1);
                find(following, following.start, *next);
            }
            for (std::int64_t i = 0; i < now.num_kv_heads; ++i) {
                (this->*attend_head_)(now.sequence, now.kv_head + i, i * head_dim_, *tokens, *next, part);
            }
            Tokens<T>* done = tokens;
            tokens = next, next = done;
        }
    }

    /// One KV head of a tile, and all query heads that read it. HEAD_DIM 0 stands for any.
    template <int HEAD_DIM>
    void attend_head(std::int64_t sequence, std::int64_t kv_head, std::int64_t offset, const Tokens<T>& tokens,
                     const Tokens<T>& next, const Part& part) {
        static const Tokens<T> NOTHING = {};
        alignas(64) float scores[TILE_LEN];
        const int num_padded = (tokens.count + LANES - 1) / LANES * LANES;
        const int head_dim = HEAD_DIM ? HEAD_DIM : head_dim_;
        for (std::int64_t head = kv_head * group_; head < (kv_head + 1) * group_; ++head) {
            const T* query = decode_.query.row(sequence) + head * head_dim;
            const bool is_first = head == kv_head * group_;
            for (int first = 0; first < num_padded; first += LANES) {
                for (int i = 0; is_first && i < LANES; ++i) fetch(next.keys, first + i, next.count, offset, head_dim);
                dot(query, tokens, first, offset, head_dim, scores + first);
            }
            const float scale = cap(scores, num_padded, decode_.scores);
            const float factor = fold(scores, tokens.count, num_padded, scale, part.running[head]);
            add_head(scores, tokens, is_first ? next : NOTHING, offset, head_dim, factor, part.sums + head * padded_dim_);
        }
    }

    /// Puts the parts of a sequence together; an empty context gives zeros.
    void finish(std::int64_t sequence) {
        const std::int64_t first = first_part_[sequence], end = first_part_[sequence + 1];
        T* out = decode_.out.row(sequence);
        if (first == end) {
            std::memset(out, 0, decode_.query.num_heads * head_dim_ * sizeof(T));
            return;
        }
        for (std::int64_t head = 0; head < decode_.query.num_heads; ++head) {
            Running& all = part_of(first).running[head];
            float* sums = part_of(first).sums + head * padded_dim_;
            for (std::int64_t other = first + 1; other < end; ++other) {
                add_part(all, sums, part_of(other).running[head], part_of(other).sums + head * padded_dim_);
            }
            const Vec divisor = broadcast(all.sum);
            int element = 0;
            for (; element + LANES <= head_dim_; element += LANES) {
                store(load(sums + element) / divisor, out + head * head_dim_ + element);
            }
            if (element < head_dim_) {
                store_first(load(sums + element) / divisor, out + head * head_dim_ + element, head_dim_ - element);
            }
        }
    }

    void add_part(Running& all, float* sums, const Running& other, const float* more) const {
        // NaN in either must come out as NaN: the comparison then keeps `other`, whose factor is NaN.
        const float after = all.maximum > other.maximum ? all.maximum : other.maximum;
        const float factor = shrink(all.maximum, after), other_factor = shrink(other.maximum, after);
        for (int i = 0; i < padded_dim_; i += LANES) {
            store(load(sums + i) * factor + load(more + i) * other_factor, sums + i);
        }
        all = {after, all.sum * factor + other.sum * other_factor};
    }

    using AttendHead = void (Decoding::*)(std::int64_t, std::int64_t, std::int64_t, const Tokens<T>&, const Tokens<T>&,
                                          const Part&);

    const Decode<T>& decode_;
    AttendHead attend_head_;
    std::int64_t num_kv_heads_, group_, num_sequences_;
    int head_dim_, padded_dim_;
    std::int64_t share_ = 1, items_per_part_ = 1;  // KV heads of an item
    std::int64_t* first_part_;  // [num_sequences + 1]
    Running* running_;          // [num_parts, num_heads]
    float* sums_;               // [num_parts, num_heads, padded head_dim]
};

template <typename T>
void decode(const Decode<T>& arguments) {
    Decoding<T>(arguments).run();
}

}  // namespace pagedbench::PAGEDBENCH_ISA
