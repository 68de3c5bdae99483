// The occupancy refresh: everything fades, then what was asked counts. A cell that occurs twice belongs to one task.
#include "../native/native.hpp"

KERNEL(occupancy_refresh)(float* grid, int64_t cells, const int64_t* indices, const float* densities, int64_t n, float decay) {
    const int64_t chunks = tasks_for(cells, 1 << 16);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(cells, task, chunks); i < part(cells, task + 1, chunks); ++i) grid[i] *= decay;
    });
    for (int64_t i = 0; i < n; ++i) {
        float& cell = grid[indices[i]];
        cell = cell > densities[i] ? cell : densities[i];
    }
}
