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
#include "tile.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Tokens of one work item.
constexpr std::int64_t PART_LEN = 512;

/// Items a thread should get, so that long sequences even out.
constexpr std::int64_t ITEMS_PER_THREAD = 8;

template <int NUMBER>
struct Count {
    static constexpr int value = NUMBER;
};

/// The softmax so far of an item's query heads.
struct Part {
    Running* running;  // [num_heads]
    float* sums;       // [num_heads, padded head_dim]
};

/// One decode, cut into items. C is the type of the caches.
template <typename T, typename C>
class Decoding {
  public:
    explicit Decoding(const Decode<T, C>& decode) : decode_(decode) {
        num_kv_heads_ = decode.keys.num_heads;
        group_ = decode.query.num_heads / num_kv_heads_;
        head_dim_ = static_cast<int>(decode.query.head_dim);
        row_len_ = head_dim_ + SCALE_LEN<C>;
        padded_dim_ = (head_dim_ + LANES - 1) / LANES * LANES;
        num_sequences_ = decode.query.num_rows;
        attend_tile_ = head_dim_ == 64    ? &Decoding::attend_tile<64>
                       : head_dim_ == 128 ? &Decoding::attend_tile<128>
                                          : &Decoding::attend_tile<0>;
        first_part_ = static_cast<std::int64_t*>(std::malloc((num_sequences_ + 1) * sizeof(std::int64_t)));
        first_part_[0] = 0;
        for (std::int64_t i = 0; i < num_sequences_; ++i) {
            first_part_[i + 1] = first_part_[i] + (num_seen(i) + PART_LEN - 1) / PART_LEN;
        }
        const std::int64_t num_heads = decode.query.num_heads, all_parts = first_part_[num_sequences_];
        running_ = static_cast<Running*>(std::malloc(all_parts * num_heads * sizeof(Running)));
        sums_ = static_cast<float*>(std::aligned_alloc(64, (all_parts * num_heads * padded_dim_ * 4 + 63) / 64 * 64));
    }

    Decoding(const Decoding&) = delete;
    ~Decoding() {
        std::free(first_part_);
        std::free(running_);
        std::free(sums_);
    }

    void run() {
        const std::int64_t all_parts = first_part_[num_sequences_];
        if (all_parts > 0) {
            const std::int64_t wanted = decode_.num_threads > 1 ? ITEMS_PER_THREAD * decode_.num_threads : 1;
            const std::int64_t cuts = (wanted + all_parts - 1) / all_parts;
            share_ = cuts < num_kv_heads_ ? (num_kv_heads_ + cuts - 1) / cuts : 1;
            items_per_part_ = (num_kv_heads_ + share_ - 1) / share_;
            share_out(all_parts * items_per_part_, decode_.num_threads, [&](std::int64_t index, int) { attend(index); });
        }
        for (std::int64_t i = 0; i < num_sequences_; ++i) {
            if (num_parts(i) != 1) finish(i, 0, decode_.query.num_heads);
        }
    }

  private:
    /// `start` and `stop` number the tokens without the gap.
    struct Item {
        std::int64_t part, sequence, start, stop, kv_head, num_kv_heads;
    };

    /// The query heads of one KV head, their softmax so far, and a tile's scores.
    struct Head {
        const T* queries;     // [group, dim]
        int dim;
        std::int64_t offset;  // of the KV head in a row of the item
        Running* running;     // [group]
        float* sums;          // [group, padded dim]
        float* scores;        // [group, TILE_LEN]
        float* factors;       // [group], of what was summed before
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

    std::int64_t num_parts(std::int64_t sequence) const { return first_part_[sequence + 1] - first_part_[sequence]; }

    Part part_of(std::int64_t part) const {
        const std::int64_t num_heads = decode_.query.num_heads;
        return {running_ + part * num_heads, sums_ + part * num_heads * padded_dim_};
    }

    void find(const Item& item, std::int64_t position, Tokens<C>& tokens) const {
        std::int64_t slots[TILE_LEN];
        tokens.count = static_cast<int>(item.stop - position < TILE_LEN ? item.stop - position : TILE_LEN);
        decode_.placement.slots(item.sequence, position, tokens.count, gap(item.sequence), slots);
        for (int i = 0; i < tokens.count; ++i) {
            tokens.keys[i] = decode_.keys.row(slots[i]) + item.kv_head * row_len_;
            tokens.values[i] = decode_.values.row(slots[i]) + item.kv_head * row_len_;
        }
        for (int i = tokens.count; i % LANES; ++i) {
            tokens.keys[i] = tokens.keys[i - 1];
            tokens.values[i] = tokens.values[i - 1];
        }
    }

    /// While a tile is computed, the next one is fetched: behind the last, the first of the next item.
    [[gnu::noinline]] void attend(std::int64_t index) {  // one copy: see prefill.h
        const Item now = item(index);
        const Part part = part_of(now.part);
        for (std::int64_t head = now.kv_head * group_; head < (now.kv_head + now.num_kv_heads) * group_; ++head) {
            part.running[head] =  // sink logits count once
                now.part == first_part_[now.sequence] ? before_tokens(decode_.scores, head) : NOTHING_SEEN;
            std::memset(part.sums + head * padded_dim_, 0, padded_dim_ * sizeof(float));
        }
        Buffers buffers(now.num_kv_heads * group_, head_dim_);
        Tokens<C> tiles[2];
        Tokens<C>*tokens = tiles, *next = tiles + 1;
        find(now, now.start, *tokens);
        for (std::int64_t position = now.start; position < now.stop; position += TILE_LEN) {
            next->count = 0;
            if (position + TILE_LEN < now.stop) {
                find(now, position + TILE_LEN, *next);
            } else if (index + 1 < first_part_[num_sequences_] * items_per_part_) {
                const Item following = item(index + 1);
                find(following, following.start, *next);
            }
            (this->*attend_tile_)(now, *tokens, *next, part, buffers);
            Tokens<C>* done = tokens;
            tokens = next, next = done;
        }
        if (num_parts(now.sequence) == 1) finish(now.sequence, now.kv_head * group_, (now.kv_head + now.num_kv_heads) * group_);
    }

    /// All KV heads of an item over a tile: first all scores, then all weights, then all values. Each step is the
    /// same for every head, and none of them waits for another. HEAD_DIM 0 stands for any.
    template <int HEAD_DIM>
    void attend_tile(const Item& item, const Tokens<C>& tokens, const Tokens<C>& next, const Part& part,
                     Buffers& buffers) {
        const auto for_heads = [&](const auto& use) __attribute__((always_inline)) {
            for (std::int64_t i = 0; i < item.num_kv_heads; ++i) {
                const std::int64_t first = (item.kv_head + i) * group_;
                use(Head{decode_.query.row(item.sequence) + first * head_dim_, HEAD_DIM ? HEAD_DIM : head_dim_,
                         i * row_len_, part.running + first, part.sums + first * padded_dim_,
                         buffers.scores + i * group_ * TILE_LEN, buffers.factors + i * group_});
            }
        };
        const std::int64_t bursts_per_head = 2 * ((tokens.count + BURST_TOKENS - 1) / BURST_TOKENS);
        Fetcher<C> ahead(next, item.num_kv_heads * row_len_ * sizeof(C), item.num_kv_heads * bursts_per_head);
        for_heads([&](const Head& head) __attribute__((always_inline)) { score(head, tokens, ahead, buffers); });
        for_heads([&](const Head& head) __attribute__((always_inline)) { weigh(head, tokens.count); });
        for_heads([&](const Head& head) __attribute__((always_inline)) { add(head, tokens, ahead, buffers); });
    }

    /// Calls use(Count of how many, the first) for all query heads of a KV head.
    template <typename Use>
    [[gnu::always_inline]] void in_blocks(const Use& use) const {
        std::int64_t first = 0;
        for (; first + 4 <= group_; first += 4) use(Count<4>{}, first);
        for (; first + 2 <= group_; first += 2) use(Count<2>{}, first);
        if (first < group_) use(Count<1>{}, first);
    }

    /// Products of a head's queries with a tile's keys.
    [[gnu::always_inline]] void score(const Head& head, const Tokens<C>& tokens, Fetcher<C>& ahead,
                                      Buffers& buffers) const {
        const int num_padded = padded(tokens.count);
        const Side<C> keys = {tokens.keys, tokens.count, head.offset,
                              buffers.scales(tokens.keys, tokens.count, head.offset + head_dim_)};
        in_blocks([&](auto count, std::int64_t query) __attribute__((always_inline)) {
            using Q = QueryType<C>;
            const Queries<Q> queries = buffers.in_type<Q>(head.queries + query * head.dim, count.value, head.dim);
            for (int first = 0; first < num_padded; first += LANES) {
                if (query == 0 && first % BURST_TOKENS == 0) ahead.burst();
                dot<count.value>(queries, keys, first, head.dim, head.scores + query * TILE_LEN + first);
            }
        });
        for (std::int64_t i = 0; keys.scales && i < group_; ++i) {
            multiply_by(keys.scales, num_padded, head.scores + i * TILE_LEN);
        }
    }

    /// From scores of a tile's tokens to their weights.
    [[gnu::always_inline]] void weigh(const Head& head, int num_tokens) const {
        const int num_padded = padded(num_tokens);
        for (std::int64_t i = 0; i < group_; ++i) {
            float* scores = head.scores + i * TILE_LEN;
            const float scale = cap(scores, num_padded, decode_.scores);
            head.factors[i] = fold(scores, num_tokens, num_padded, scale, head.running[i]);
        }
    }

    /// The weighted values of a tile's tokens.
    [[gnu::always_inline]] void add(const Head& head, const Tokens<C>& tokens, Fetcher<C>& ahead,
                                    Buffers& buffers) const {
        const Side<C> values = {tokens.values, tokens.count, head.offset,
                                buffers.scales(tokens.values, tokens.count, head.offset + head_dim_)};
        for (std::int64_t i = 0; i < group_; ++i) {
            float* weights = head.scores + i * TILE_LEN;
            if (values.scales) multiply_by(values.scales, padded(tokens.count), weights);
            if constexpr (IN_PAIRS<C>) round_in_place(weights);
        }
        for (int first = 0; first < tokens.count; first += BURST_TOKENS) ahead.burst();
        in_blocks([&](auto count, std::int64_t query) __attribute__((always_inline)) {
            const Weighted heads = {head.scores + query * TILE_LEN, head.factors + query,
                                    head.sums + query * padded_dim_, padded_dim_};
            add_head<count.value>(heads, values, head.dim);
        });
    }

    /// Puts the parts of a sequence together, for heads first_head to end_head - 1; an empty context gives zeros.
    void finish(std::int64_t sequence, std::int64_t first_head, std::int64_t end_head) {
        const std::int64_t first = first_part_[sequence], end = first_part_[sequence + 1];
        T* out = decode_.out.row(sequence);
        if (first == end) {
            std::memset(out + first_head * head_dim_, 0, (end_head - first_head) * head_dim_ * sizeof(T));
            return;
        }
        for (std::int64_t head = first_head; head < end_head; ++head) {
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

    using AttendTile = void (Decoding::*)(const Item&, const Tokens<C>&, const Tokens<C>&, const Part&, Buffers&);

    const Decode<T, C>& decode_;
    AttendTile attend_tile_;
    std::int64_t num_kv_heads_, group_, row_len_, num_sequences_;
    int head_dim_, padded_dim_;
    std::int64_t share_ = 1, items_per_part_ = 1;  // KV heads of an item
    std::int64_t* first_part_;  // [num_sequences + 1]
    Running* running_;          // [all parts, num_heads]
    float* sums_;               // [all parts, num_heads, padded head_dim]
};

template <typename T, typename C>
void decode(const Decode<T, C>& arguments) {
    Decoding<T, C>(arguments).run();
}

}  // namespace pagedbench::PAGEDBENCH_ISA
