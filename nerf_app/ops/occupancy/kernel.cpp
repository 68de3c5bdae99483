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

KERNEL(occupancy_mark)(const float* grid, int64_t cells, float cap, uint8_t* occupied) {
    const int64_t chunks = tasks_for(cells, 1 << 15);
    double sums[64] = {};
    int64_t known[64] = {};
    parallel(chunks, [&](int64_t task) {
        double sum = 0.0;
        int64_t count = 0;
        for (int64_t begin = part(cells, task, chunks), end = part(cells, task + 1, chunks); begin < end; begin += 4096) {
            float some = 0.0f;  // of a few thousand: float32 is enough, and quick
            int32_t few = 0;
            for (int64_t i = begin; i < (begin + 4096 < end ? begin + 4096 : end); ++i) {
                some += grid[i] >= 0.0f ? grid[i] : 0.0f;
                few += grid[i] >= 0.0f;
            }
            sum += some, count += few;
        }
        sums[task] = sum, known[task] = count;
    });
    double sum = 0.0;
    int64_t count = 0;
    for (int64_t task = 0; task < chunks; ++task) sum += sums[task], count += known[task];
    const double typical = 0.5 * sum / (double)(count > 0 ? count : 1);
    const float threshold = typical < cap ? (float)typical : cap;
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(cells, task, chunks); i < part(cells, task + 1, chunks); ++i)
            occupied[i] = grid[i] > threshold || grid[i] < 0.0f;
    });
}
