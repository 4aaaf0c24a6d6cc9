// Who computes what: tasks in a row, a contiguous share for each thread, and whoever is done takes from the
// end of another's share. A thread that the system has put to sleep holds up its one task and no more.
#pragma once

#include <cstdint>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace pagedbench::PAGEDBENCH_ISA {

constexpr int MAX_THREADS = 256;

inline int thread_index() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

class Tasks {
  public:
    Tasks(std::int64_t num_tasks, int num_threads) : num_threads_(num_threads) {
        for (int i = 0; i < num_threads; ++i) {
            shares_[i].bounds = pack(num_tasks * i / num_threads, num_tasks * (i + 1) / num_threads);
        }
    }

    /// The next task of this thread, or -1 when nothing is left anywhere.
    std::int64_t take(int thread) {
        std::int64_t task = take_from(shares_[thread], true);
        for (int i = 1; task < 0 && i < num_threads_; ++i) {
            task = take_from(shares_[(thread + i) % num_threads_], false);
        }
        return task;
    }

  private:
    struct alignas(64) Share {
        std::uint64_t bounds;  // first task in the upper half, end in the lower
    };

    static std::uint64_t pack(std::uint64_t first, std::uint64_t end) { return first << 32 | end; }

    static std::int64_t take_from(Share& share, bool from_front) {
        std::uint64_t bounds = __atomic_load_n(&share.bounds, __ATOMIC_RELAXED);
        for (;;) {
            const std::uint64_t first = bounds >> 32, end = bounds & 0xFFFFFFFFu;
            if (first >= end) return -1;
            const std::uint64_t rest = from_front ? pack(first + 1, end) : pack(first, end - 1);
            if (__atomic_compare_exchange_n(&share.bounds, &bounds, rest, true, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
                return static_cast<std::int64_t>(from_front ? first : end - 1);
            }
        }
    }

    int num_threads_;
    Share shares_[MAX_THREADS];
};

/// Calls work(task, thread) once for each task, on up to `num_threads` threads.
template <typename Work>
void share_out(std::int64_t num_tasks, int num_threads, const Work& work) {
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    if (num_threads > num_tasks) num_threads = static_cast<int>(num_tasks);
    if (num_threads <= 1) {
        for (std::int64_t task = 0; task < num_tasks; ++task) work(task, 0);
        return;
    }
    Tasks tasks(num_tasks, num_threads);
#pragma omp parallel num_threads(num_threads)
    {
        const int thread = thread_index();
        for (std::int64_t task; (task = tasks.take(thread)) >= 0;) work(task, thread);
    }
}

}  // namespace pagedbench::PAGEDBENCH_ISA
