// Memory directly from the operating system, in huge pages if it has them: a weight of some megabytes is then
// read without a miss in the address cache every 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#else
#include <cstdlib>
#endif

namespace pagedbench {

constexpr std::size_t HUGE_PAGE = std::size_t{2} << 20;

/// Zeroed memory, whole pages.
class Pages {
  public:
    Pages() = default;

    explicit Pages(std::size_t num_bytes) : num_bytes_(num_bytes) {
#if defined(__linux__)
        // Rounded up and aligned, so that a large piece can be entirely in huge pages.
        mapped_bytes_ = num_bytes < HUGE_PAGE ? num_bytes : num_bytes + HUGE_PAGE;
        mapped_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED) throw std::bad_alloc();
        auto start = reinterpret_cast<std::uintptr_t>(mapped_);
        if (num_bytes >= HUGE_PAGE) {
            start = (start + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
            // This is advice: a failure is not an error. A rest of less than a huge page stays in small pages.
            madvise(reinterpret_cast<void*>(start), num_bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
        }
        data_ = reinterpret_cast<void*>(start);
#else
        mapped_ = data_ = std::aligned_alloc(64, (num_bytes + 63) / 64 * 64);
        if (!data_) throw std::bad_alloc();
#endif
    }

    Pages(Pages&& other) noexcept { swap(other); }

    Pages& operator=(Pages&& other) noexcept {
        swap(other);
        return *this;
    }

    ~Pages() {
        if (!mapped_) return;
#if defined(__linux__)
        munmap(mapped_, mapped_bytes_);
#else
        std::free(mapped_);
#endif
    }

    void* data() const { return data_; }
    std::size_t num_bytes() const { return num_bytes_; }

  private:
    void swap(Pages& other) {
        std::swap(mapped_, other.mapped_);
        std::swap(data_, other.data_);
        std::swap(mapped_bytes_, other.mapped_bytes_);
        std::swap(num_bytes_, other.num_bytes_);
    }

    void* mapped_ = nullptr;
    void* data_ = nullptr;
    std::size_t mapped_bytes_ = 0, num_bytes_ = 0;
};

}  // namespace pagedbench
