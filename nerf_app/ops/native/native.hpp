// What every kernel shares: vectors of the target's width, threads, and how a function gets out of the library.
//
// Each kernel.cpp is compiled once for every target (see build.py), with TARGET its name and LANES the number of floats in
// a register. Its functions carry the target in their name, so that one library holds them all.
#pragma once
#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define KERNEL(name) extern "C" __attribute__((visibility("default"))) void JOIN(name, TARGET)

// Runs work(context, task) for every task in 0...n_tasks - 1, on whichever threads are free.
// What a task computes may not depend on who runs it: results are the same bits for any number of threads.
extern "C" void nerf_run(int64_t n_tasks, void (*work)(void*, int64_t), void* context);

namespace {

constexpr int W = LANES;
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

inline Vector broadcast(float x) { return x - Vector{}; }

// from[places], lane by lane.
inline Integers gathered(const uint32_t* from, Integers places) {
#if defined(__AVX512F__)
    return (Integers)_mm512_i32gather_epi32((__m512i)places, from, 4);
#elif defined(__AVX2__)
    return (Integers)_mm256_i32gather_epi32((const int*)from, (__m256i)places, 4);
#else
    Integers values;
    for (int lane = 0; lane < W; ++lane) values[lane] = (int32_t)from[places[lane]];
    return values;
#endif
}

// A bit for each lane that is true, as comparisons give them.
inline uint32_t mask_of(Integers is_true) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)is_true);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)is_true);
#else
    uint32_t mask = 0;
    for (int lane = 0; lane < W; ++lane) mask |= (uint32_t)(is_true[lane] & 1) << lane;
    return mask;
#endif
}

inline bool is_zero(const float* x, int64_t count) {
    uint32_t any = 0;
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, x + i, 4);
        any |= bits << 1;  // a negative zero is zero
    }
    return any == 0;
}

template <class Work>
void parallel(int64_t n_tasks, Work&& work) {
    if (n_tasks > 0)
        nerf_run(n_tasks, [](void* context, int64_t task) { (*static_cast<Work*>(context))(task); }, &work);
}

// The part of 0...n that belongs to one of n_tasks equal tasks.
inline int64_t part(int64_t n, int64_t task, int64_t n_tasks) { return n * task / n_tasks; }

// How many tasks a loop over n things is cut into: enough for any machine's threads, each with some work, never depending
// on how many threads there are.
inline int64_t tasks_for(int64_t n, int64_t least) {
    int64_t tasks = (n + least - 1) / least;
    return tasks < 64 ? tasks : 64;
}

}  // namespace
