// The hash grid, level by level over the whole batch: one level's table stays in the cache, and in the backward pass each
// level belongs to one task, so there are no atomics and sums are always taken in the same order.
#include "grid.hpp"

namespace {

// Features differentiated by x [N, L·F, D], or, pulled back through d_features, the gradient by x [N, D].
template <int D, int F>
void slopes(const float* x, int64_t begin, int64_t end, const float* table, const Level* levels, int n_levels,
            const float* d_features, float* d_x, float* jacobian) {
    const int width = n_levels * F;
    if (d_x) std::memset(d_x + begin * D, 0, sizeof(float) * (end - begin) * D);
    for (int l = 0; l < n_levels; ++l) {
        const float* entries = table + (int64_t)levels[l].first * F;
        for_blocks<D>(x, begin, end, levels[l], [&](const Corners<D>& corners, int64_t start, int count) {
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
        });
    }
}

// The table's gradient by a cotangent of the Jacobian [N, L·F, D].
template <int D, int F>
void backward_jacobian_level(const float* x, int64_t n, const float* d_jacobian, const Level& level, int index, int width,
                             float* d_table) {
    float* entries = d_table + (int64_t)level.first * F;
    for_blocks<D>(x, 0, n, level, [&](const Corners<D>& corners, int64_t start, int count) {
        for (int i = 0; i < count; ++i)
            for (int c = 0; c < Corners<D>::COUNT; ++c) {
                float* row = entries + (int64_t)corners.rows[c][i] * F;
                for (int axis = 0; axis < D; ++axis) {
                    const float slope = corners.slope(c, axis, i) * level.scale;
                    for (int f = 0; f < F; ++f) row[f] += slope * d_jacobian[((start + i) * width + index * F + f) * D + axis];
                }
            }
    });
}

// The gradient by x [N, D] of a cotangent of the Jacobian: inside a cell only mixed second derivatives are not zero.
template <int D, int F>
void curvatures(const float* x, int64_t begin, int64_t end, const float* table, const Level* levels, int n_levels,
                const float* d_jacobian, float* d_x) {
    const int width = n_levels * F;
    std::memset(d_x + begin * D, 0, sizeof(float) * (end - begin) * D);
    for (int l = 0; l < n_levels; ++l) {
        const float* entries = table + (int64_t)levels[l].first * F;
        const float scale = levels[l].scale * levels[l].scale;
        for_blocks<D>(x, begin, end, levels[l], [&](const Corners<D>& corners, int64_t start, int count) {
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
        });
    }
}

// Makes of each corner's weight its change as the point moves by `step` [count][D].
template <int D>
void lean(Corners<D>& corners, const float* step, int count, float scale) {
    for (int c = 0; c < Corners<D>::COUNT; ++c)
        for (int i = 0; i < count; ++i) {
            float change = 0.0f;
            for (int axis = 0; axis < D; ++axis) change += corners.slope(c, axis, i) * step[i * D + axis];
            corners.weights[c][i] = scale * change;
        }
}

// Of one level, how its features change as the points move by `steps`, and the table's gradient by d_features of that change.
template <int D, int F>
void moved_level(const float* x, int64_t n, const float* table, const Level& level, int index, int width, const float* d_features,
                 const float* steps, float* changes, float* d_table) {
    using Type = typename Row<F>::Type;
    const int64_t first = (int64_t)level.first * F;
    for_blocks<D>(x, 0, n, level, [&](Corners<D>& corners, int64_t start, int count) {
        lean(corners, steps + start * D, count, level.scale);
        for (int i = 0; i < count; ++i) {
            const int64_t feature = (start + i) * width + index * F;
            const Type gradient = *(const Type*)(d_features + feature);
            Type change{};
            for (int c = 0; c < Corners<D>::COUNT; ++c) {
                const int64_t row = first + (int64_t)corners.rows[c][i] * F;
                change += corners.weights[c][i] * *(const Type*)(table + row);
                *(Type*)(d_table + row) += corners.weights[c][i] * gradient;
            }
            *(Type*)(changes + feature) = change;
        }
    });
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

// `cotangent` [N, D] is that of d_x; `pushed` becomes that of d_features, d_table is added to.
KERNEL(hashgrid_pull_backward)(const float* x, int64_t n, int dimensions, const float* table, int features, const Level* levels,
                               int n_levels, const float* d_features, const float* cotangent, float* pushed, float* d_table) {
    with_sizes(dimensions, features, [&](auto d, auto f) {
        parallel(n_levels, [&](int64_t l) {
            moved_level<d, f>(x, n, table, levels[l], (int)l, n_levels * features, d_features, cotangent, pushed, d_table);
        });
    });
}
