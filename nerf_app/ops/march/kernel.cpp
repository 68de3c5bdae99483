// Marching: many steps of a ray are looked at together, the bits of the grid lie in a cache.
//
// The arithmetic is the reference's, operation by operation in float32 without fused multiply-adds, so that the kept set is
// the same.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr float LINEAR = 2.0f, FAR = 200.0f;  // as sampling/contraction.py has them
constexpr int BATCH = 32;       // steps

struct Grid {
    const uint8_t* occupied;  // [G, G, G] z, y, x: a byte a cell
    int size;
    bool is_bounded;
};

inline float distance_at(float s, bool is_bounded) {
    if (is_bounded || s <= LINEAR) return s;
    float rest = 2.0f * LINEAR - s;
    return LINEAR * LINEAR / (rest > LINEAR * LINEAR / FAR ? rest : LINEAR * LINEAR / FAR);
}

inline float lattice_at(float t, bool is_bounded) {
    if (is_bounded || t <= LINEAR) return t;
    return 2.0f * LINEAR - LINEAR * LINEAR / t;
}

inline float clamped(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

// Which of `count` steps from number k on have their middle before `far` in an occupied cell.
inline void look(const Grid& grid, const float* origin, const float* direction, float first, float jitter, float step, float far,
                 int64_t k, int count, uint8_t* is_kept) {
    float t[BATCH];
    int32_t cell[BATCH];
    for (int i = 0; i < count; ++i) t[i] = distance_at(first + ((float)(k + i) + 0.5f + jitter) * step, grid.is_bounded);
    const float size = (float)grid.size;
    for (int i = 0; i < count; ++i) {
        float x = origin[0] + t[i] * direction[0], y = origin[1] + t[i] * direction[1], z = origin[2] + t[i] * direction[2];
        if (grid.is_bounded) {
            x = 0.5f * (x + 1.0f), y = 0.5f * (y + 1.0f), z = 0.5f * (z + 1.0f);
        } else {
            float m = std::fabs(x);
            m = std::fabs(y) > m ? std::fabs(y) : m;
            m = std::fabs(z) > m ? std::fabs(z) : m;
            m = m > 1.0f ? m : 1.0f;
            float factor = (2.0f - 1.0f / m) / m;
            x = (x * factor + 2.0f) * 0.25f, y = (y * factor + 2.0f) * 0.25f, z = (z * factor + 2.0f) * 0.25f;
        }
        int32_t cx = (int32_t)(clamped(x) * size), cy = (int32_t)(clamped(y) * size), cz = (int32_t)(clamped(z) * size);
        cx = cx < grid.size ? cx : grid.size - 1, cy = cy < grid.size ? cy : grid.size - 1, cz = cz < grid.size ? cz : grid.size - 1;
        cell[i] = (cz * grid.size + cy) * grid.size + cx;
    }
    for (int i = 0; i < count; ++i) is_kept[i] = grid.occupied[cell[i]] && t[i] < far;
}

// How many candidates the ray's lattice has.
inline int64_t candidates(float near, float far, float step, bool is_bounded) {
    if (!(far > near)) return 0;
    return (int64_t)std::ceil((lattice_at(far, is_bounded) - lattice_at(near, is_bounded)) / step);
}

template <class Keep>
void walk(const Grid& grid, const float* origin, const float* direction, float near, float far, float jitter, float step,
          Keep&& keep) {
    const int64_t total = candidates(near, far, step, grid.is_bounded);
    const float first = lattice_at(near, grid.is_bounded);
    for (int64_t k = 0; k < total; k += BATCH) {
        uint8_t is_kept[BATCH];
        const int count = (int)(total - k < BATCH ? total - k : BATCH);
        look(grid, origin, direction, first, jitter, step, far, k, count, is_kept);
        for (int i = 0; i < count; ++i)
            if (is_kept[i]) keep(first, k + i);
    }
}

}  // namespace

KERNEL(march_count)(const float* origins, const float* directions, const float* near, const float* far, const float* jitter,
                    int64_t n_rays, float step, const uint8_t* occupied, int size, int is_bounded, int64_t* counts) {
    const Grid grid{occupied, size, is_bounded != 0};
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            int64_t count = 0;
            walk(grid, origins + 3 * r, directions + 3 * r, near[r], far[r], jitter[r], step, [&](float, int64_t) { ++count; });
            counts[r] = count;
        }
    });
}

KERNEL(march_fill)(const float* origins, const float* directions, const float* near, const float* far, const float* jitter,
                   int64_t n_rays, float step, const uint8_t* occupied, int size, int is_bounded, const int64_t* starts,
                   const int64_t* counts, float* t_starts, float* t_ends, int64_t* ray_indices) {
    const Grid grid{occupied, size, is_bounded != 0};
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            if (counts[r] == 0) continue;
            int64_t place = starts[r];
            walk(grid, origins + 3 * r, directions + 3 * r, near[r], far[r], jitter[r], step, [&](float first, int64_t k) {
                t_starts[place] = distance_at(first + ((float)k + jitter[r]) * step, grid.is_bounded);
                t_ends[place] = distance_at(first + ((float)(k + 1) + jitter[r]) * step, grid.is_bounded);
                ray_indices[place++] = r;
            });
        }
    });
}
