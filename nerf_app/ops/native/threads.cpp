// Our own threads: torch's OpenMP pool stays torch's. Work is cut into the same tasks however many threads there are, so runs
// repeat bit for bit.
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

constexpr uint64_t COUNT = 0xffffffff;  // the lower half of a ticket

// Whoever is free takes the next task, the caller first of all: on a busy machine, where the other threads may not be given
// a core for milliseconds, it does all the work itself and waits for nobody. A task is the same whoever does it.
struct Pool {
    std::mutex mutex;
    std::condition_variable wake, done;
    std::vector<std::thread> threads;
    std::atomic<uint64_t> ticket{0};  // number of the round, and below it how many of its tasks are taken
    std::atomic<int64_t> n_tasks{0}, finished{0};
    std::atomic<void (*)(void*, int64_t)> work{nullptr};
    std::atomic<void*> context{nullptr};
    int n_threads = 1;
    bool leave = false;
    pid_t owner = getpid();

    // Takes tasks of a round until none is left. While one is taken the round cannot end, so what it works on stays there.
    void share(uint64_t round) {
        uint64_t at = ticket.load(std::memory_order_acquire);
        while (at >> 32 == round && (int64_t)(at & COUNT) < n_tasks.load(std::memory_order_relaxed)) {
            if (!ticket.compare_exchange_weak(at, at + 1, std::memory_order_acq_rel)) continue;
            work.load(std::memory_order_relaxed)(context.load(std::memory_order_relaxed), (int64_t)(at & COUNT));
            if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 == n_tasks.load(std::memory_order_relaxed)) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
            at = ticket.load(std::memory_order_acquire);
        }
    }

    void serve() {
        uint64_t seen = 0;
        auto round = [&] { return ticket.load(std::memory_order_acquire) >> 32; };
        while (true) {
            for (int i = 0; i < SPINS && round() == seen; ++i) relax();
            if (round() == seen) {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return round() != seen; });
            }
            seen = round();
            if (leave) return;
            share(seen);
        }
    }

    uint64_t next_round() const { return ((ticket.load(std::memory_order_relaxed) >> 32) + 1) << 32; }

    // Ends the last round for good: what comes next may be set without a late thread taking it for the old one.
    void close() { ticket.store(next_round() | COUNT, std::memory_order_seq_cst); }

    // Opens the next round.
    void announce() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            ticket.store(next_round(), std::memory_order_release);
        }
        wake.notify_all();
    }

    void resize(int count) {
        close();
        leave = true;
        n_tasks = 0;
        announce();
        for (auto& thread : threads) thread.join();
        threads.clear();
        leave = false;
        ticket = 0;
        n_threads = count;
        for (int i = 1; i < count; ++i) threads.emplace_back([this] { serve(); });
    }

    void run(int64_t tasks, void (*function)(void*, int64_t), void* what) {
        if (n_threads == 1 || tasks == 1) {
            for (int64_t task = 0; task < tasks; ++task) function(what, task);
            return;
        }
        close();
        work = function, context = what, finished = 0, n_tasks = tasks;
        announce();
        share(ticket.load(std::memory_order_acquire) >> 32);
        for (int i = 0; i < SPINS && finished.load(std::memory_order_acquire) < tasks; ++i) relax();
        if (finished.load(std::memory_order_acquire) < tasks) {
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, [&] { return finished.load(std::memory_order_acquire) == tasks; });
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

// What the library was compiled from.
EXPORT const char* nerf_sources() { return SOURCES; }

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
