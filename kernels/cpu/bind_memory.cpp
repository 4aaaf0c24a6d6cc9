// Moving tokens between slots.
#include <algorithm>
#include <cstring>

#include "bindings.h"
#include "threads.h"

namespace nb = nanobind;

namespace pagedbench {
namespace {

struct Run {
    std::int64_t source, destination, num_slots;
};

using Pools = std::vector<Array>;

/// Tokens of any element type are moved as bytes.
std::int64_t bytes_per_slot(const Named& named) {
    const Array& array = named.array;
    check_device(named);
    if (array.ndim() != 3) fail_value(std::string(named.name) + " must have three dimensions");
    const auto num_heads = static_cast<std::int64_t>(array.shape(1)), head_dim = static_cast<std::int64_t>(array.shape(2));
    if (array.stride(2) != 1 || array.stride(1) != head_dim || array.stride(0) != num_heads * head_dim) {
        fail_value(std::string(named.name) + " must be contiguous");
    }
    return num_heads * head_dim * array.dtype().bits / 8;
}

void check_run(const Run& run, std::int64_t num_sources, std::int64_t num_destinations) {
    const bool fits = run.num_slots >= 0 && run.source >= 0 && run.destination >= 0 &&
                      run.source <= num_sources - run.num_slots && run.destination <= num_destinations - run.num_slots;
    if (!fits) {
        fail_value("the run of " + std::to_string(run.num_slots) + " slots from " + std::to_string(run.source) + " to " +
                   std::to_string(run.destination) + " lies outside the pools");
    }
}

/// Does any run write what another reads? Then everything has to be read first.
bool do_overlap(const Run* runs, std::int64_t num_runs) {
    std::vector<std::pair<std::int64_t, std::int64_t>> sources;
    for (std::int64_t i = 0; i < num_runs; ++i) sources.emplace_back(runs[i].source, runs[i].source + runs[i].num_slots);
    std::sort(sources.begin(), sources.end());
    for (std::size_t i = 1; i < sources.size(); ++i) {
        sources[i].second = std::max(sources[i].second, sources[i - 1].second);  // the furthest end so far
    }
    return std::any_of(runs, runs + num_runs, [&](const Run& run) {
        const auto after = std::lower_bound(sources.begin(), sources.end(),
                                            std::make_pair(run.destination + run.num_slots, std::int64_t{0}));
        return after != sources.begin() && std::prev(after)->second > run.destination;
    });
}

void move(const char* from, char* to, std::int64_t bytes, const Run* runs, std::int64_t num_runs) {
    for (std::int64_t i = 0; i < num_runs; ++i) {
        std::memcpy(to + runs[i].destination * bytes, from + runs[i].source * bytes, runs[i].num_slots * bytes);
    }
}

void move_through_copy(const char* from, char* to, std::int64_t bytes, const Run* runs, std::int64_t num_runs) {
    std::vector<char> copy;
    for (std::int64_t i = 0; i < num_runs; ++i) {
        const char* first = from + runs[i].source * bytes;
        copy.insert(copy.end(), first, first + runs[i].num_slots * bytes);
    }
    const char* next = copy.data();
    for (std::int64_t i = 0; i < num_runs; ++i) {
        std::memcpy(to + runs[i].destination * bytes, next, runs[i].num_slots * bytes);
        next += runs[i].num_slots * bytes;
    }
}

void copy_runs(const Pools& sources, const Pools& destinations, const Array& runs, int num_threads) {
    if (sources.size() != destinations.size()) fail_value("sources and destinations must be as many");
    check_threads(num_threads);
    const auto num_runs = static_cast<std::int64_t>(runs.ndim() == 2 ? runs.shape(0) : 0);
    const auto* moves = reinterpret_cast<const Run*>(integers<std::int64_t>({"runs", runs}, {num_runs, 3}));
    const auto num_pools = static_cast<std::int64_t>(sources.size());
    for (std::int64_t i = 0; i < num_pools; ++i) {
        if (bytes_per_slot({"sources", sources[i]}) != bytes_per_slot({"destinations", destinations[i]})) {
            fail_value("sources and destinations must have slots of one size");
        }
        for (std::int64_t j = 0; j < num_runs; ++j) {
            check_run(moves[j], static_cast<std::int64_t>(sources[i].shape(0)),
                      static_cast<std::int64_t>(destinations[i].shape(0)));
        }
    }
    const bool is_read_first = do_overlap(moves, num_runs);
    nb::gil_scoped_release release;
    share_out(num_pools, num_threads, [&](std::int64_t i, int) {
        const auto* from = static_cast<const char*>(sources[i].data());
        auto* to = static_cast<char*>(destinations[i].data());
        const std::int64_t bytes = bytes_per_slot({"sources", sources[i]});
        const bool needs_copy = from == to && is_read_first;
        (needs_copy ? move_through_copy : move)(from, to, bytes, moves, num_runs);
    });
}

}  // namespace

void bind_memory(nb::module_& module) {
    module.def("copy_runs", copy_runs, nb::arg("sources"), nb::arg("destinations"), nb::arg("runs").noconvert(),
               nb::arg("num_threads"));
}

}  // namespace pagedbench
