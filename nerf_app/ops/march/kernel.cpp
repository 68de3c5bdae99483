// Marching: many steps of a ray are looked at together, the bits of the grid lie in a cache.
//
// The arithmetic is the reference's, operation by operation in float32 without fused multiply-adds, so that the kept set is
// the same.
#include <cmath>
#include <vector>

#include "../native/native.hpp"
#include "space.hpp"

namespace {

constexpr int BATCH = 32;  // steps, or cells: the bits of a word; it and EDGE as march/cpp.py has them

constexpr int EDGE = 8;  // of a block, in cells

inline int blocks_along(int size) { return (size + EDGE - 1) / EDGE; }

// What `march_pack` makes of a grid [G, G, G] z, y, x.
struct Grid {
    int size;
    bool is_bounded;
    const uint32_t* bits;    // one a cell, which fit into a nearer cache than bytes
    const uint8_t* is_near;  // [B, B, B] z, y, x: something is in the block or in one that touches it

    // One bit each: not zero where the cell is occupied.
    Integers at(Integers places) const {
        return gathered(bits, places >> 5) >> (places & 31) & 1;
    }
};

void pack_cells(const uint8_t* occupied, int64_t cells, uint32_t* bits) {
    const int64_t words = (cells + BATCH - 1) / BATCH, chunks = tasks_for(words, 1024);
    parallel(chunks, [&](int64_t task) {
        for (int64_t word = part(words, task, chunks); word < part(words, task + 1, chunks); ++word) {
            bits[word] = 0;
            for (int64_t i = word * BATCH; i < (word + 1) * BATCH && i < cells; i += 8) {
                uint64_t eight = 0;  // bytes of 0 or 1, whose product has them side by side in its highest byte
                std::memcpy(&eight, occupied + i, cells - i < 8 ? cells - i : 8);
                bits[word] |= (uint32_t)(eight * 0x0102040810204080u >> 56) << i % BATCH;
            }
        }
    });
}

void find_near(const uint8_t* occupied, int size, uint8_t* is_near) {
    const int count = blocks_along(size), total = count * count * count;
    std::memset(is_near, 0, total);
    parallel(count, [&](int64_t z) {
        for (int64_t i = z * EDGE * size; i < (z + 1) * EDGE * size && i < (int64_t)size * size; ++i) {
            const uint8_t* row = occupied + i * size;
            uint8_t* blocks = &is_near[(z * count + i % size / EDGE) * count];
            int x = 0;
            for (; (x + 1) * EDGE <= size; ++x) {
                uint64_t cells;
                std::memcpy(&cells, row + x * EDGE, EDGE);
                blocks[x] |= cells != 0;
            }
            for (int rest = x * EDGE; rest < size; ++rest) blocks[x] |= row[rest];
        }
    });
    for (const int stride : {1, count, count * count}) {  // each axis after the other reaches the neighbours at corners too
        const std::vector<uint8_t> before(is_near, is_near + total);
        for (int i = 0; i < total; ++i) {
            const int place = i / stride % count;
            is_near[i] |= (place > 0 && before[i - stride]) || (place + 1 < count && before[i + stride]);
        }
    }
}

// A ray, and its lattice.
struct Ray {
    const float *origin, *direction;
    float first, jitter, step, far;
};

inline Vector counted(int64_t k) {  // k, k + 1, ...
    Vector numbers;
    for (int lane = 0; lane < W; ++lane) numbers[lane] = (float)(k + lane);
    return numbers;
}

// The cells in which points on a ray lie, by x, y and z.
inline void cells_at(const Grid& grid, const Ray& ray, Vector t, Integers* cell) {
    const auto unit = to_unit(ray.origin[0] + t * ray.direction[0], ray.origin[1] + t * ray.direction[1],
                              ray.origin[2] + t * ray.direction[2], grid.is_bounded);
    const Integers last = Integers{} + (grid.size - 1);
    const Vector size = Vector{} + (float)grid.size, places[3] = {unit.x, unit.y, unit.z};
    for (int axis = 0; axis < 3; ++axis) {
        const Integers at = __builtin_convertvector(places[axis] * size, Integers);
        cell[axis] = at < last ? at : last;
    }
}

// Which of `count` steps from number k on have their middle before `far` in an occupied cell: a bit each.
inline uint32_t look(const Grid& grid, const Ray& ray, int64_t k, int count) {
    uint32_t kept = 0;
    for (int begin = 0; begin < count; begin += W) {
        const Vector s = ray.first + (counted(k + begin) + 0.5f + ray.jitter) * ray.step;
        const Vector t = distance_at(s, grid.is_bounded);
        Integers cell[3];
        cells_at(grid, ray, t, cell);
        const Integers is_kept = (grid.at((cell[2] * grid.size + cell[1]) * grid.size + cell[0]) != 0) & (t < ray.far);
        kept |= mask_of(is_kept) << begin;
    }
    return count < BATCH ? kept & ((1u << count) - 1) : kept;
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
        if (0.5f * (float)span * cells < (float)EDGE - 0.01f) return span;
    return 0;
}

// Which of the next W spans of steps, from number k on, are empty, as far as the blocks know: not zero. Only straight ways are
// judged.
inline Integers are_empty(const Grid& grid, const Ray& ray, int64_t k, int span) {
    const Vector begin = ray.first + ((float)k + counted(0) * (float)span) * ray.step, end = begin + (float)(span + 1) * ray.step;
    Integers is_straight = end == end, cell[3];
    if (!grid.is_bounded) {
        is_straight = end <= LINEAR;
        for (int axis = 0; axis < 3; ++axis) {
            const Vector from = ray.origin[axis] + begin * ray.direction[axis], to = ray.origin[axis] + end * ray.direction[axis];
            is_straight &= (larger(from, -from) <= 1.0f) & (larger(to, -to) <= 1.0f);
        }
    }
    cells_at(grid, ray, 0.5f * (begin + end), cell);
    const int count = blocks_along(grid.size);
    const Integers places = (cell[2] / EDGE * count + cell[1] / EDGE) * count + cell[0] / EDGE;
    Integers is_near;
    for (int lane = 0; lane < W; ++lane) is_near[lane] = grid.is_near[places[lane]];
    return is_straight & (is_near == 0);
}

}  // namespace

// A grid as `march_find` looks at it: a bit for each of its cells, and which blocks of them may hold something.
KERNEL(march_pack)(const uint8_t* occupied, int size, uint32_t* bits, uint8_t* is_near) {
    pack_cells(occupied, (int64_t)size * size * size, bits);
    find_near(occupied, size, is_near);
}

// Which steps of each ray are kept: a bit each, `words` words of 32 for a ray, all of them written; and how many they are.
KERNEL(march_find)(const float* origins, const float* directions, const float* near, const float* far, const float* jitter,
                   int64_t n_rays, float step, const uint32_t* cells, const uint8_t* is_near, int size, int is_bounded,
                   uint32_t* bits, int64_t words, int64_t* counts) {
    const Grid grid{size, is_bounded != 0, cells, is_near};
    const int span = span_of(grid, step), stride = span > 0 ? span : BATCH;
    const int64_t chunks = tasks_for(n_rays, 64);
    parallel(chunks, [&](int64_t task) {
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) {
            const int64_t total = candidates(near[r], far[r], step, grid.is_bounded);
            const Ray ray{origins + 3 * r, directions + 3 * r, lattice_at(near[r], grid.is_bounded), jitter[r], step, far[r]};
            std::memset(bits + r * words, 0, sizeof(uint32_t) * words);
            counts[r] = 0;
            for (int64_t begin = 0; begin < total; begin += W * stride) {
                const Integers is_empty = span > 0 ? are_empty(grid, ray, begin, span) : Integers{};
                for (int lane = 0; lane < W; ++lane) {
                    const int64_t k = begin + lane * stride;
                    if (k >= total) break;
                    if (is_empty[lane]) continue;
                    const uint32_t kept = look(grid, ray, k, (int)(total - k < stride ? total - k : stride));
                    bits[r * words + k / BATCH] |= kept << k % BATCH;
                    counts[r] += __builtin_popcount(kept);
                }
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
