// One level of the hash grid over many points: features forward, the table's gradient backward.
#pragma once
#include <cmath>
#include <type_traits>

#include "../native/native.hpp"

namespace {

struct Level {  // as the caller packs it
    float scale;
    int32_t resolution, entries, first, is_dense, unused;
};

// One rounding, as tinycudann has it; where the processor has no such instruction, by way of double.
inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return (float)((double)a * (double)b + (double)c);
#endif
}

constexpr int BLOCK = 64;  // points whose places are computed together, before any of the table is touched

// For a block of points: the rows of their 2^D corners, the corners' weights, and the place within the cell.
template <int D>
struct Corners {
    static constexpr int COUNT = 1 << D;
    int32_t rows[COUNT][BLOCK];
    float weights[COUNT][BLOCK];
    float fraction[D][BLOCK];

    void find(const float* x, int count, const Level& level) {
        uint32_t ends[D][2][BLOCK];  // what each axis adds to a row, at the cell's lower and upper end
        float shares[D][2][BLOCK];   // and to a weight
        const uint32_t res = (uint32_t)level.resolution, entries = (uint32_t)level.entries;
        const uint32_t dense[3] = {1u, res, res * res}, hashed[3] = {1u, 2654435761u, 805459861u};
        for (int d = 0; d < D; ++d) {
            const uint32_t factor = level.is_dense ? dense[d] : hashed[d];
            for (int i = 0; i < count; ++i) {
                const float wished = fused(level.scale, x[i * D + d], 0.5f), last = level.scale + 0.5f;
                const float place = wished > 0.0f ? (wished < last ? wished : last) : 0.0f;  // nothing leads out of the table
                const float below = std::floor(place);
                fraction[d][i] = place - below;
                ends[d][0][i] = (uint32_t)(int32_t)below * factor;
                ends[d][1][i] = ends[d][0][i] + factor;
                shares[d][0][i] = 1.0f - fraction[d][i];
                shares[d][1][i] = fraction[d][i];
            }
        }
        for (int corner = 0; corner < COUNT; ++corner) {
            const int at[3] = {corner & 1, corner >> 1 & 1, corner >> 2 & 1};
            for (int i = 0; i < count; ++i) {
                uint32_t row = ends[0][at[0]][i];
                float weight = shares[0][at[0]][i];
                for (int d = 1; d < D; ++d) {
                    row = level.is_dense ? row + ends[d][at[d]][i] : row ^ ends[d][at[d]][i];
                    weight *= shares[d][at[d]][i];
                }
                if (level.is_dense) row = row >= entries ? row - entries : row;  // at x = 1, and never twice as many
                else row &= entries - 1;                                         // a hashed level has a power of two of them
                rows[corner][i] = (int32_t)row;
                weights[corner][i] = weight;
            }
        }
    }

    // The corner's weight differentiated by the place in the cell along one axis.
    float slope(int corner, int axis, int i) const {
        float value = corner >> axis & 1 ? 1.0f : -1.0f;
        for (int d = 0; d < D; ++d)
            if (d != axis) value *= corner >> d & 1 ? fraction[d][i] : 1.0f - fraction[d][i];
        return value;
    }
};

// Calls work(corners, start, count) for one block of the points begin...end after the other.
template <int D, class Work>
void for_blocks(const float* x, int64_t begin, int64_t end, const Level& level, Work&& work) {
    Corners<D> corners;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int count = (int)(end - start < BLOCK ? end - start : BLOCK);
        corners.find(x + start * D, count, level);
        work(corners, start, count);
    }
}

template <int F>
struct Row {
    typedef float Type __attribute__((vector_size(4 * F), aligned(4), may_alias));
};

template <int D, int F>
void forward_level(const float* x, int64_t begin, int64_t end, const float* table, const Level& level, int index, int width,
                   float* features) {
    using Type = typename Row<F>::Type;
    const float* entries = table + (int64_t)level.first * F;
    for_blocks<D>(x, begin, end, level, [&](const Corners<D>& corners, int64_t start, int count) {
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) __builtin_prefetch(entries + (int64_t)corners.rows[c][i] * F);
        for (int i = 0; i < count; ++i) {
            Type sum{};
            for (int c = 0; c < Corners<D>::COUNT; ++c)
                sum += corners.weights[c][i] * *(const Type*)(entries + (int64_t)corners.rows[c][i] * F);
            *(Type*)(features + (start + i) * width + index * F) = sum;
        }
    });
}

template <int D, int F>
void backward_level(const float* x, int64_t n, const float* d_features, const Level& level, int index, int width,
                    float* d_table) {
    using Type = typename Row<F>::Type;
    float* entries = d_table + (int64_t)level.first * F;
    for_blocks<D>(x, 0, n, level, [&](const Corners<D>& corners, int64_t start, int count) {
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) __builtin_prefetch(entries + (int64_t)corners.rows[c][i] * F, 1);
        for (int i = 0; i < count; ++i) {
            const float* from = d_features + (start + i) * width + index * F;
            if (is_zero(from, F)) continue;  // what lies behind a wall learns nothing
            const Type gradient = *(const Type*)from;
            for (int c = 0; c < Corners<D>::COUNT; ++c)
                *(Type*)(entries + (int64_t)corners.rows[c][i] * F) += corners.weights[c][i] * gradient;
        }
    });
}

// Calls what(constant D, constant F) for the sizes at hand.
template <class What>
void with_sizes(int dimensions, int features, What&& what) {
    auto by_features = [&](auto d) {
        switch (features) {
            case 1: return what(d, std::integral_constant<int, 1>());
            case 2: return what(d, std::integral_constant<int, 2>());
            case 4: return what(d, std::integral_constant<int, 4>());
            case 8: return what(d, std::integral_constant<int, 8>());
        }
    };
    if (dimensions == 2) by_features(std::integral_constant<int, 2>());
    if (dimensions == 3) by_features(std::integral_constant<int, 3>());
}

}  // namespace
