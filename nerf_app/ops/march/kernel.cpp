// Marching: many steps of a ray are looked at together, the bits of the grid lie in a cache.
//
// The arithmetic is the reference's, operation by operation in float32 without fused multiply-adds, so that the kept set is
// the same.
#include <vector>

#include "../native/native.hpp"
#include "space.hpp"

namespace {

constexpr int BATCH = 32;  // steps: the bits of a word

struct Grid {
    const uint8_t* occupied;  // [G, G, G] z, y, x: a byte a cell
    int size;
    bool is_bounded;
};

// What is certainly empty: blocks of cells in which, and in whose neighbours, nothing is occupied.
struct Blocks {
    static constexpr int EDGE = 8;  // cells
    int count;                      // along an edge of the grid
    std::vector<uint8_t> is_near;   // [B, B, B] z, y, x: something is in the block or in one that touches it

    explicit Blocks(const Grid& grid) : count((grid.size + EDGE - 1) / EDGE), is_near((size_t)count * count * count) {
        parallel(count, [&](int64_t z) {
            for (int64_t i = z * EDGE * grid.size; i < (z + 1) * EDGE * grid.size && i < (int64_t)grid.size * grid.size; ++i) {
                const uint8_t* row = grid.occupied + i * grid.size;
                uint8_t* blocks = &is_near[(z * count + i % grid.size / EDGE) * count];
                int x = 0;
                for (; (x + 1) * EDGE <= grid.size; ++x) {
                    uint64_t cells;
                    std::memcpy(&cells, row + x * EDGE, EDGE);
                    blocks[x] |= cells != 0;
                }
                for (int rest = x * EDGE; rest < grid.size; ++rest) blocks[x] |= row[rest];
            }
        });
        for (const int stride : {1, count, count * count}) {  // each axis after the other reaches the neighbours at corners too
            const std::vector<uint8_t> before = is_near;
            for (int i = 0; i < count * count * count; ++i) {
                const int place = i / stride % count;
                is_near[i] |= (place > 0 && before[i - stride]) || (place + 1 < count && before[i + stride]);
            }
        }
    }
};

// Which of `count` steps from number k on have their middle before `far` in an occupied cell.
inline void look(const Grid& grid, const float* origin, const float* direction, float first, float jitter, float step, float far,
                 int64_t k, int count, uint8_t* is_kept) {
    float t[BATCH];
    int32_t cell[BATCH];
    for (int i = 0; i < count; ++i) t[i] = distance_at(first + ((float)(k + i) + 0.5f + jitter) * step, grid.is_bounded);
    const float size = (float)grid.size;
    for (int i = 0; i < count; ++i) {
        float x = origin[0] + t[i] * direction[0], y = origin[1] + t[i] * direction[1], z = origin[2] + t[i] * direction[2];
        to_unit(x, y, z, grid.is_bounded);
        int32_t cx = (int32_t)(x * size), cy = (int32_t)(y * size), cz = (int32_t)(z * size);
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

// How many steps may be judged by the block in which their middle lies: none of them is further from it than a block's edge.
inline int span_of(const Grid& grid, float step) {
    const float cells = step * (grid.is_bounded ? 0.5f : 0.25f) * (float)grid.size;  // on the way of a step, at most
    for (int span = BATCH; span > 1; span /= 2)
        if (0.5f * (float)span * cells < (float)Blocks::EDGE - 0.01f) return span;
    return 0;
}

// Whether all of `span` steps from number k on are empty, as far as the blocks know. Only straight ways are judged.
inline bool is_empty(const Grid& grid, const Blocks& blocks, const float* origin, const float* direction, float first, float step,
                     int64_t k, int span) {
    const float begin = first + (float)k * step, end = first + (float)(k + span + 1) * step;
    float place[3];
    if (!grid.is_bounded) {
        if (!(end <= LINEAR)) return false;
        for (int axis = 0; axis < 3; ++axis)
            if (!(std::fabs(origin[axis] + begin * direction[axis]) <= 1.0f && std::fabs(origin[axis] + end * direction[axis]) <= 1.0f))
                return false;
    }
    for (int axis = 0; axis < 3; ++axis) place[axis] = origin[axis] + 0.5f * (begin + end) * direction[axis];
    to_unit(place[0], place[1], place[2], grid.is_bounded);
    int block[3];
    for (int axis = 0; axis < 3; ++axis) {
        const int cell = (int)(place[axis] * (float)grid.size);
        block[axis] = (cell < grid.size ? cell : grid.size - 1) / Blocks::EDGE;
    }
    return !blocks.is_near[(block[2] * blocks.count + block[1]) * blocks.count + block[0]];
}

}  // namespace

// Which steps of each ray are kept: a bit each, `words` words of 32 for a ray, all of them written; and how many they are.
KERNEL(march_find)(const float* origins, const float* directions, const float* near, const float* far, const float* jitter,
                   int64_t n_rays, float step, const uint8_t* occupied, int size, int is_bounded, uint32_t* bits, int64_t words,
                   int64_t* counts) {
    const Grid grid{occupied, size, is_bounded != 0};
    const Blocks blocks(grid);
    const int span = span_of(grid, step), stride = span > 0 ? span : BATCH;
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            const float *origin = origins + 3 * r, *direction = directions + 3 * r;
            const int64_t total = candidates(near[r], far[r], step, grid.is_bounded);
            const float first = lattice_at(near[r], grid.is_bounded);
            std::memset(bits + r * words, 0, sizeof(uint32_t) * words);
            counts[r] = 0;
            for (int64_t k = 0; k < total; k += stride) {
                if (span > 0 && is_empty(grid, blocks, origin, direction, first, step, k, span)) continue;
                uint8_t is_kept[BATCH];
                const int count = (int)(total - k < stride ? total - k : stride);
                look(grid, origin, direction, first, jitter[r], step, far[r], k, count, is_kept);
                uint32_t kept = 0;
                for (int i = 0; i < count; ++i) kept |= (uint32_t)is_kept[i] << i;
                bits[r * words + k / BATCH] |= kept << k % BATCH;
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
