// The threads of all kernels. OpenMP's would all meet at the end of every region, even if one of them has
// nothing left to do but has lost its core to another program; such a thread does not delay these.
#include "threads.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>
#include <utility>

#include <pthread.h>
#include <sched.h>

namespace pagedbench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

/// A waiting thread keeps its core for this time; then it offers it to others (`sched_yield`), and finally sleeps.
constexpr microseconds PAUSE{20};
/// When a worker without a region goes to sleep: after more time than Python takes between two kernels.
constexpr microseconds AWAKE_FOR_REGION{200};
/// When a caller that waits for the last tasks of others goes to sleep: after more time than a task takes.
/// A thread that still computes one has lost its core. The system gives it the caller's if that sleeps.
constexpr microseconds AWAKE_FOR_TASKS{500};
/// The time after which the caller asks the next worker where it is; and a pause after which nobody can know.
constexpr microseconds ASK_AFTER{1000}, LONG_PAUSE{20000};
/// Workers that have not joined a region after this time, times their number, wait for a core: waking them takes less.
constexpr microseconds LATE{100};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Waits until `is_over`, at most for `duration`. Returns the last result of `is_over`.
template <typename Condition>
bool wait_awake(microseconds duration, const Condition& is_over) {
    const auto start = Clock::now();
    for (auto now = start; now < start + duration; now = Clock::now()) {
        if (now >= start + PAUSE) sched_yield();
        for (int i = 0; i < 32; ++i) {
            if (is_over()) return true;
            pause();
        }
    }
    return is_over();
}

/// A thread of the pool, the core on which it entered a region since the caller last asked (-1 for none), and the
/// number of the last region that it entered.
struct alignas(64) Worker {
    pthread_t thread;
    std::atomic<int> core{-1};
    std::atomic<std::uint32_t> region{0};
};

/// The core of the calling thread; -1 where the system does not tell.
int this_core() {
#if defined(__linux__)
    return sched_getcpu();
#else
    return -1;
#endif
}

/// Sends a thread to any other core that it may use. It may come back.
void send_away(pthread_t thread, int core) {
#if defined(__linux__)
    cpu_set_t cores, others;
    if (pthread_getaffinity_np(thread, sizeof cores, &cores) != 0) return;
    others = cores;
    CPU_CLR(core, &others);
    if (CPU_COUNT(&others) == 0) return;
    pthread_setaffinity_np(thread, sizeof others, &others);
    pthread_setaffinity_np(thread, sizeof cores, &cores);
#else
    (void)thread, (void)core;
#endif
}

/// The tasks of one region that no thread has taken yet.
class Tasks {
  public:
    Tasks(std::int64_t num_tasks, int num_threads) : num_threads_(num_threads) {
        for (int i = 0; i < num_threads; ++i) {
            shares_[i].bounds = pack(num_tasks * i / num_threads, num_tasks * (i + 1) / num_threads);
        }
    }

    int num_threads() const { return num_threads_; }

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

/// Threads that wait for regions. Each joins a region while it is open; the caller closes it when no task is
/// left, and waits only for those that have joined it.
class Pool {
  public:
    void run(const Work& work, std::int64_t num_tasks, int num_threads) {
        const std::lock_guard lock(mutex_);
        while (num_workers_ < num_threads - 1) start_worker();
        Tasks tasks(num_tasks, num_threads);
        work_ = &work;
        tasks_ = &tasks;
        const std::uint32_t region = region_.load(std::memory_order_relaxed) + 1;
        gate_.store(static_cast<std::uint64_t>(region) << 32 | OPEN, std::memory_order_release);
        region_.store(region, std::memory_order_release);
        region_.notify_all();
        const auto start = Clock::now();
        keep_apart(num_threads - 1, start);
        bool has_looked = num_threads == 1;
        for (std::int64_t task; (task = tasks.take(0)) >= 0;) {
            work.run(work.context, task, 0);
            if (has_looked || Clock::now() - start < LATE * (num_threads - 1)) continue;
            has_looked = true;
            send_late_away(region, num_threads - 1);
        }
        close();
    }

  private:
    static constexpr std::uint64_t OPEN = 1u << 31;
    static constexpr std::uint64_t NUM_INSIDE = OPEN - 1;

    static void compute(const Work& work, Tasks& tasks, int thread) {
        for (std::int64_t task; (task = tasks.take(thread)) >= 0;) work.run(work.context, task, thread);
    }

    void start_worker() {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the threads of the program
        Worker& worker = workers_[num_workers_++];
        std::thread thread([this, &worker, index = num_workers_] { serve(worker, index); });
        worker.thread = thread.native_handle();
        thread.detach();
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    /// Asks one worker after the other, now and then, where it is, and sends it away if it waits for the caller's
    /// core. A thread that loses a task's core to a busy program gets the caller's when that waits for it, and so
    /// both would stay there: the system moves threads to idle cores, but not to one that a program has for itself.
    void keep_apart(int num_workers, Clock::time_point now) {
        const auto age = now - asked_;
        if (age < ASK_AFTER) return;
        asked_ = now;
        Worker& worker = workers_[num_asked_++ % num_workers];
        const int here = this_core(), core = worker.core.exchange(-1, std::memory_order_relaxed);
        if ((core == -1 || core == here) && here >= 0 && age < LONG_PAUSE) send_away(worker.thread, here);
    }

    /// Sends the workers that have not joined the region to other cores: the system may have given them the caller's
    /// when they were woken, because theirs had other work.
    void send_late_away(std::uint32_t region, int num_workers) {
        const int here = this_core();
        for (int i = 0; i < num_workers && here >= 0; ++i) {
            if (workers_[i].region.load(std::memory_order_relaxed) != region) send_away(workers_[i].thread, here);
        }
    }

    void serve(Worker& worker, int thread) {
        for (std::uint32_t seen = 0;;) {
            const auto has_begun = [&] { return region_.load(std::memory_order_acquire) != seen; };
            if (!wait_awake(AWAKE_FOR_REGION, has_begun)) region_.wait(seen, std::memory_order_acquire);
            seen = region_.load(std::memory_order_acquire);
            if (!enter(seen)) continue;
            worker.core.store(this_core(), std::memory_order_relaxed);
            worker.region.store(seen, std::memory_order_relaxed);
            if (thread < tasks_->num_threads()) compute(*work_, *tasks_, thread);
            if (gate_.fetch_sub(1, std::memory_order_acq_rel) << 32 == std::uint64_t{1} << 32) gate_.notify_one();
        }
    }

    /// Is the region still open? Then it does not end before this thread has left it.
    bool enter(std::uint32_t region) {
        std::uint64_t gate = gate_.load(std::memory_order_acquire);
        while (gate >> 32 == region && gate & OPEN) {
            if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
        }
        return false;
    }

    void close() {
        std::uint64_t gate = gate_.fetch_and(~OPEN, std::memory_order_acq_rel) & ~OPEN;
        const auto is_empty = [&] { return !((gate = gate_.load(std::memory_order_acquire)) & NUM_INSIDE); };
        if (wait_awake(AWAKE_FOR_TASKS, is_empty)) return;
        while (!is_empty()) gate_.wait(gate, std::memory_order_acquire);
    }

    std::mutex mutex_;
    int num_workers_ = 0;
    Worker workers_[MAX_THREADS];
    Clock::time_point asked_{};  // when the caller last asked a worker where it is
    unsigned num_asked_ = 0;
    const Work* work_ = nullptr;
    Tasks* tasks_ = nullptr;
    alignas(64) std::atomic<std::uint32_t> region_{0};  // the number of the latest region
    alignas(64) std::atomic<std::uint64_t> gate_{0};    // its number | OPEN | number of workers in it
};

/// Never destroyed: its threads wait until the process ends. A child of fork has none of them.
Pool* pool = new Pool;

}  // namespace

void run_tasks(const Work& work, std::int64_t num_tasks, int num_threads) {
    static const int is_registered = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
    (void)is_registered;
    pool->run(work, num_tasks, num_threads < MAX_THREADS ? num_threads : MAX_THREADS);
}

}  // namespace pagedbench
