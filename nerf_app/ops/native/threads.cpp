// Our own threads: torch's OpenMP pool stays torch's. Work is mapped to threads by number, so runs repeat bit for bit.
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

constexpr int SPINS = 2000;  // about 20 µs: the pause between two kernels of a step is shorter than waking up

struct Pool {
    std::mutex mutex;
    std::condition_variable wake, done;
    std::vector<std::thread> threads;
    std::atomic<uint64_t> round{0};
    std::atomic<int> busy{0};
    void (*work)(void*, int64_t) = nullptr;
    void* context = nullptr;
    int64_t n_tasks = 0;
    int n_threads = 1;
    std::atomic<bool> leave{false};
    pid_t owner = getpid();

    void share(int thread) {
        for (int64_t task = thread; task < n_tasks; task += n_threads) work(context, task);
    }

    void serve(int thread) {
        uint64_t seen = 0;
        while (true) {
            for (int i = 0; i < SPINS && round.load(std::memory_order_acquire) == seen; ++i) relax();
            if (round.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return round.load(std::memory_order_acquire) != seen; });
            }
            seen = round.load(std::memory_order_acquire);
            if (leave) return;
            share(thread);
            if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
        }
    }

    void announce() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            round.fetch_add(1, std::memory_order_acq_rel);
        }
        wake.notify_all();
    }

    void resize(int count) {
        leave = true;
        announce();
        for (auto& thread : threads) thread.join();
        threads.clear();
        leave = false;
        round = 0;
        n_threads = count;
        for (int i = 1; i < count; ++i) threads.emplace_back([this, i] { serve(i); });
    }

    void run(int64_t tasks, void (*function)(void*, int64_t), void* what) {
        work = function, context = what, n_tasks = tasks;
        if (n_threads == 1 || tasks == 1) {
            for (int64_t task = 0; task < tasks; ++task) work(context, task);
            return;
        }
        busy.store(n_threads - 1, std::memory_order_release);
        announce();
        share(0);
        for (int i = 0; i < SPINS && busy.load(std::memory_order_acquire); ++i) relax();
        if (busy.load(std::memory_order_acquire)) {
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, [&] { return busy.load(std::memory_order_acquire) == 0; });
        }
    }
};

Pool* pool = new Pool;  // never destroyed: its threads may outlive everything at exit
std::mutex one_caller;

}  // namespace

// A fork waits for the end of a running kernel: the child would inherit the lock, but not the thread that opens it again.
static const int forks = pthread_atfork([] { one_caller.lock(); }, [] { one_caller.unlock(); }, [] { one_caller.unlock(); });

// A forked child has no threads but its own: it begins with a pool of its own.
static void own_pool() {
    if (pool->owner == getpid()) return;
    int count = pool->n_threads;
    pool = new Pool;
    pool->resize(count);
}

EXPORT void nerf_set_threads(int count) {
    std::lock_guard<std::mutex> lock(one_caller);
    own_pool();
    if (count != pool->n_threads) pool->resize(count);
}

extern "C" void nerf_run(int64_t n_tasks, void (*work)(void*, int64_t), void* context) {
    std::lock_guard<std::mutex> lock(one_caller);
    own_pool();
    pool->run(n_tasks, work, context);
}

// The best of the targets that this processor has: 0 baseline, 1 AVX2 with FMA, 2 AVX-512.
EXPORT int nerf_best_target() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}
