// The hash grid, level by level over the whole batch: one level's table stays in the cache, and in the backward pass each
// level belongs to one task, so there are no atomics and sums are always taken in the same order.
#include <cmath>

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
        uint32_t cell[D][BLOCK];
        for (int d = 0; d < D; ++d) {
            for (int i = 0; i < count; ++i) {
                float place = fused(level.scale, x[i * D + d], 0.5f);
                float below = std::floor(place);
                fraction[d][i] = place - below;
                cell[d][i] = (uint32_t)(int32_t)below;
            }
        }
        const uint32_t entries = (uint32_t)level.entries, res = (uint32_t)level.resolution;
        for (int corner = 0; corner < COUNT; ++corner) {
            uint32_t row[BLOCK];
            const uint32_t cx = corner & 1, cy = corner >> 1 & 1, cz = corner >> 2 & 1;
            if (level.is_dense) {
                for (int i = 0; i < count; ++i) {
                    uint32_t inner = cell[1][i] + cy;
                    if (D == 3) inner += res * (cell[D - 1][i] + cz);
                    row[i] = cell[0][i] + cx + res * inner;
                    row[i] = row[i] >= entries ? row[i] % entries : row[i];
                }
            } else {  // a hashed level has a power of two of entries
                for (int i = 0; i < count; ++i) {
                    uint32_t hash = (cell[0][i] + cx) ^ (cell[1][i] + cy) * 2654435761u;
                    if (D == 3) hash ^= (cell[D - 1][i] + cz) * 805459861u;
                    row[i] = hash & (entries - 1);
                }
            }
            for (int i = 0; i < count; ++i) {
                rows[corner][i] = (int32_t)row[i];
                float weight = cx ? fraction[0][i] : 1.0f - fraction[0][i];
                weight *= cy ? fraction[1][i] : 1.0f - fraction[1][i];
                if (D == 3) weight *= cz ? fraction[D - 1][i] : 1.0f - fraction[D - 1][i];
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

template <int F>
struct Row {
    typedef float Type __attribute__((vector_size(4 * F), aligned(4), may_alias));
};

template <int D, int F>
void forward_level(const float* x, int64_t begin, int64_t end, const float* table, const Level& level, int index, int width,
                   float* features) {
    using Type = typename Row<F>::Type;
    const float* entries = table + (int64_t)level.first * F;
    Corners<D> corners;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int count = (int)(end - start < BLOCK ? end - start : BLOCK);
        corners.find(x + start * D, count, level);
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) __builtin_prefetch(entries + (int64_t)corners.rows[c][i] * F);
        for (int i = 0; i < count; ++i) {
            Type sum{};
            for (int c = 0; c < Corners<D>::COUNT; ++c)
                sum += corners.weights[c][i] * *(const Type*)(entries + (int64_t)corners.rows[c][i] * F);
            *(Type*)(features + (start + i) * width + index * F) = sum;
        }
    }
}

template <int D, int F>
void backward_level(const float* x, int64_t n, const float* d_features, const Level& level, int index, int width,
                    float* d_table) {
    using Type = typename Row<F>::Type;
    float* entries = d_table + (int64_t)level.first * F;
    Corners<D> corners;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int count = (int)(n - start < BLOCK ? n - start : BLOCK);
        corners.find(x + start * D, count, level);
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) __builtin_prefetch(entries + (int64_t)corners.rows[c][i] * F, 1);
        for (int i = 0; i < count; ++i) {
            const float* from = d_features + (start + i) * width + index * F;
            if (is_zero(from, F)) continue;  // what lies behind a wall learns nothing
            const Type gradient = *(const Type*)from;
            for (int c = 0; c < Corners<D>::COUNT; ++c)
                *(Type*)(entries + (int64_t)corners.rows[c][i] * F) += corners.weights[c][i] * gradient;
        }
    }
}

// Features differentiated by x [N, L·F, D], or, pulled back through d_features, the gradient by x [N, D].
template <int D, int F>
void slopes(const float* x, int64_t begin, int64_t end, const float* table, const Level* levels, int n_levels,
            const float* d_features, float* d_x, float* jacobian) {
    const int width = n_levels * F;
    Corners<D> corners;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int count = (int)(end - start < BLOCK ? end - start : BLOCK);
        if (d_x) std::memset(d_x + start * D, 0, sizeof(float) * count * D);
        for (int l = 0; l < n_levels; ++l) {
            corners.find(x + start * D, count, levels[l]);
            const float* entries = table + (int64_t)levels[l].first * F;
            for (int i = 0; i < count; ++i) {
                for (int axis = 0; axis < D; ++axis) {
                    float sum[F] = {};
                    for (int c = 0; c < Corners<D>::COUNT; ++c) {
                        const float slope = corners.slope(c, axis, i) * levels[l].scale;
                        const float* row = entries + (int64_t)corners.rows[c][i] * F;
                        for (int f = 0; f < F; ++f) sum[f] += slope * row[f];
                    }
                    for (int f = 0; f < F; ++f) {
                        const int64_t feature = (start + i) * width + l * F + f;
                        if (jacobian) jacobian[feature * D + axis] = sum[f];
                        if (d_x) d_x[(start + i) * D + axis] += sum[f] * d_features[feature];
                    }
                }
            }
        }
    }
}

// The table's gradient by a cotangent of the Jacobian [N, L·F, D].
template <int D, int F>
void backward_jacobian_level(const float* x, int64_t n, const float* d_jacobian, const Level& level, int index, int width,
                             float* d_table) {
    float* entries = d_table + (int64_t)level.first * F;
    Corners<D> corners;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int count = (int)(n - start < BLOCK ? n - start : BLOCK);
        corners.find(x + start * D, count, level);
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) {
                float* row = entries + (int64_t)corners.rows[c][i] * F;
                for (int axis = 0; axis < D; ++axis) {
                    const float slope = corners.slope(c, axis, i) * level.scale;
                    for (int f = 0; f < F; ++f) row[f] += slope * d_jacobian[((start + i) * width + index * F + f) * D + axis];
                }
            }
    }
}

// The gradient by x [N, D] of a cotangent of the Jacobian: inside a cell only mixed second derivatives are not zero.
template <int D, int F>
void curvatures(const float* x, int64_t begin, int64_t end, const float* table, const Level* levels, int n_levels,
                const float* d_jacobian, float* d_x) {
    const int width = n_levels * F;
    Corners<D> corners;
    for (int64_t start = begin; start < end; start += BLOCK) {
        const int count = (int)(end - start < BLOCK ? end - start : BLOCK);
        std::memset(d_x + start * D, 0, sizeof(float) * count * D);
        for (int l = 0; l < n_levels; ++l) {
            corners.find(x + start * D, count, levels[l]);
            const float* entries = table + (int64_t)levels[l].first * F;
            const float scale = levels[l].scale * levels[l].scale;
            for (int i = 0; i < count; ++i) {
                const float* d = d_jacobian + ((start + i) * width + l * F) * D;
                for (int a = 0; a < D; ++a)
                    for (int b = 0; b < D; ++b)
                        for (int c = 0; a != b && c < Corners<D>::COUNT; ++c) {
                            float factor = (c >> a & 1) == (c >> b & 1) ? scale : -scale;
                            for (int e = 0; e < D; ++e)
                                if (e != a && e != b)
                                    factor *= c >> e & 1 ? corners.fraction[e][i] : 1.0f - corners.fraction[e][i];
                            const float* row = entries + (int64_t)corners.rows[c][i] * F;
                            for (int f = 0; f < F; ++f) d_x[(start + i) * D + b] += factor * row[f] * d[f * D + a];
                        }
            }
        }
    }
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

KERNEL(hashgrid_forward)(const float* x, int64_t n, int dimensions, const float* table, int features, const Level* levels,
                         int n_levels, float* out) {
    const int64_t chunks = tasks_for(n, 1024);
    with_sizes(dimensions, features, [&](auto d, auto f) {
        for (int l = 0; l < n_levels; ++l)  // all threads share one level's table at a time
            parallel(chunks, [&](int64_t task) {
                forward_level<d, f>(x, part(n, task, chunks), part(n, task + 1, chunks), table, levels[l], l,
                                    n_levels * features, out);
            });
    });
}

KERNEL(hashgrid_backward)(const float* x, int64_t n, int dimensions, const float* d_features, int features, const Level* levels,
                          int n_levels, float* d_table) {
    with_sizes(dimensions, features, [&](auto d, auto f) {
        parallel(n_levels, [&](int64_t l) {
            backward_level<d, f>(x, n, d_features, levels[l], (int)l, n_levels * features, d_table);
        });
    });
}

KERNEL(hashgrid_slopes)(const float* x, int64_t n, int dimensions, const float* table, int features, const Level* levels,
                        int n_levels, const float* d_features, float* d_x, float* jacobian) {
    const int64_t chunks = tasks_for(n, 256);
    with_sizes(dimensions, features, [&](auto d, auto f) {
        parallel(chunks, [&](int64_t task) {
            slopes<d, f>(x, part(n, task, chunks), part(n, task + 1, chunks), table, levels, n_levels, d_features, d_x, jacobian);
        });
    });
}

KERNEL(hashgrid_backward_jacobian)(const float* x, int64_t n, int dimensions, const float* d_jacobian, int features,
                                   const Level* levels, int n_levels, float* d_table) {
    with_sizes(dimensions, features, [&](auto d, auto f) {
        parallel(n_levels, [&](int64_t l) {
            backward_jacobian_level<d, f>(x, n, d_jacobian, levels[l], (int)l, n_levels * features, d_table);
        });
    });
}

KERNEL(hashgrid_curvatures)(const float* x, int64_t n, int dimensions, const float* table, int features, const Level* levels,
                            int n_levels, const float* d_jacobian, float* d_x) {
    const int64_t chunks = tasks_for(n, 256);
    with_sizes(dimensions, features, [&](auto d, auto f) {
        parallel(chunks, [&](int64_t task) {
            curvatures<d, f>(x, part(n, task, chunks), part(n, task + 1, chunks), table, levels, n_levels, d_jacobian, d_x);
        });
    });
}
