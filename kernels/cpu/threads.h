// Divides numbered tasks among threads: each gets a contiguous share, and a thread that is done takes tasks
// from the end of another's share. A thread that lost its core delays only the task that it computes.
#pragma once

#include <cstdint>

namespace pagedbench {

constexpr int MAX_THREADS = 256;

/// The function of a region's tasks.
struct Work {
    void (*run)(const void* context, std::int64_t task, int thread);
    const void* context;
};

/// Runs tasks 0 to num_tasks - 1, each once, on up to `num_threads` threads, and returns when all have ended.
/// The calling thread is thread 0. Simultaneous calls run one after another.
void run_tasks(const Work& work, std::int64_t num_tasks, int num_threads);

/// Calls work(task, thread) once for each task, on up to `num_threads` threads.
template <typename Function>
void share_out(std::int64_t num_tasks, int num_threads, const Function& work) {
    if (num_threads > num_tasks) num_threads = static_cast<int>(num_tasks);
    if (num_threads <= 1) {
        for (std::int64_t task = 0; task < num_tasks; ++task) work(task, 0);
        return;
    }
    const auto run = [](const void* context, std::int64_t task, int thread) {
        (*static_cast<const Function*>(context))(task, thread);
    };
    run_tasks({run, &work}, num_tasks, num_threads);
}

}  // namespace pagedbench
