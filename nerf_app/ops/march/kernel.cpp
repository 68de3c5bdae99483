// Marching: many steps of a ray are looked at together, the bits of the grid lie in a cache.
//
// The arithmetic is the reference's, operation by operation in float32 without fused multiply-adds, so that the kept set is
// the same.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr float LINEAR = 2.0f, FAR = 200.0f;  // as sampling/contraction.py has them
constexpr int BATCH = 32;  // steps: the bits of a word

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

inline float clamped(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // what is no number becomes 0

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

}  // namespace

// Which steps of each ray are kept: a bit each, `words` words of 32 for a ray, all of them written; and how many they are.
KERNEL(march_find)(const float* origins, const float* directions, const float* near, const float* far, const float* jitter,
                   int64_t n_rays, float step, const uint8_t* occupied, int size, int is_bounded, uint32_t* bits, int64_t words,
                   int64_t* counts) {
    const Grid grid{occupied, size, is_bounded != 0};
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            const int64_t total = candidates(near[r], far[r], step, grid.is_bounded);
            const float first = lattice_at(near[r], grid.is_bounded);
            counts[r] = 0;
            for (int64_t word = 0; word < words; ++word) {
                const int64_t k = word * BATCH;
                uint32_t kept = 0;
                if (k < total) {
                    uint8_t is_kept[BATCH];
                    const int count = (int)(total - k < BATCH ? total - k : BATCH);
                    look(grid, origins + 3 * r, directions + 3 * r, first, jitter[r], step, far[r], k, count, is_kept);
                    for (int i = 0; i < count; ++i) kept |= (uint32_t)is_kept[i] << i;
                }
                bits[r * words + word] = kept;
                counts[r] += __builtin_popcount(kept);
            }
        }
    });
}

// The intervals of the kept steps of all rays that have a count.
KERNEL(march_fill)(const float* near, const float* jitter, int64_t n_rays, float step, int is_bounded, const uint32_t* bits,
                   int64_t words, const int64_t* starts, const int64_t* counts, float* t_starts, float* t_ends,
                   int64_t* ray_indices) {
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            const float first = lattice_at(near[r], is_bounded);
            int64_t place = starts[r];
            for (int64_t word = 0; word < words && counts[r]; ++word)
                for (uint32_t left = bits[r * words + word]; left; left &= left - 1) {
                    const int64_t k = word * BATCH + __builtin_ctz(left);
                    t_starts[place] = distance_at(first + ((float)k + jitter[r]) * step, is_bounded);
                    t_ends[place] = distance_at(first + ((float)(k + 1) + jitter[r]) * step, is_bounded);
                    ray_indices[place++] = r;
                }
        }
    });
}
