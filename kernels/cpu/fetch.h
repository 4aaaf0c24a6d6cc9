// A tile of decode attention: the addresses of some tokens, and how they are asked for before they are needed.
#pragma once

#include "simd.h"

namespace pagedbench::PAGEDBENCH_ISA {

/// Tokens folded into the softmax at once, and fetched while those before them are computed.
constexpr int TILE_LEN = 32;

/// Tokens of a head that are computed between two bursts of fetches: the processor has room for some two dozen.
constexpr int BURST_TOKENS = 16;

/// Addresses of a tile's tokens: their first KV head of the item. Up to a multiple of LANES the last repeats.
template <typename T>
struct Tokens {
    int count = 0;
    const T* keys[TILE_LEN];
    const T* values[TILE_LEN];
};

/// Asks for the rows of some tokens while others are computed: keys and values in turns, each in the order of memory.
/// These are two streams that the processor's own prefetcher follows, in blocks as in an extent.
template <typename C>
class Fetcher {
  public:
    /// `row_bytes` of every token, in `num_bursts`.
    Fetcher(const Tokens<C>& tokens, std::int64_t row_bytes, std::int64_t num_bursts)
        : tokens_(tokens), row_bytes_(row_bytes) {
        const std::int64_t num_lines = tokens.count * ((row_bytes + LINE - 1) / LINE);
        lines_per_burst_ = (num_lines + num_bursts - 1) / num_bursts;
    }

    void burst() {
        for (std::int64_t left = lines_per_burst_; left > 0 && token_ < tokens_.count;) {
            const char* key = reinterpret_cast<const char*>(tokens_.keys[token_]) + byte_;
            const char* value = reinterpret_cast<const char*>(tokens_.values[token_]) + byte_;
            const std::int64_t in_row = (row_bytes_ - byte_ + LINE - 1) / LINE, num = left < in_row ? left : in_row;
            for (std::int64_t i = 0; i < num; ++i) prefetch(key + i * LINE), prefetch(value + i * LINE);
            left -= num;
            byte_ += num * LINE;
            if (num == in_row) ++token_, byte_ = 0;
        }
    }

  private:
    static constexpr std::int64_t LINE = 64;

    const Tokens<C>& tokens_;
    std::int64_t row_bytes_, lines_per_burst_;
    std::int64_t byte_ = 0;
    int token_ = 0;
};

}  // namespace pagedbench::PAGEDBENCH_ISA
