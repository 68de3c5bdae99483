// The occupancy refresh: everything fades, then what was asked counts. A cell that occurs twice belongs to one task.
#include "../native/native.hpp"

KERNEL(occupancy_refresh)(float* grid, int64_t cells, const int64_t* indices, const float* densities, int64_t n, float decay) {
    const int64_t chunks = tasks_for(cells, 1 << 16);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(cells, task, chunks); i < part(cells, task + 1, chunks); ++i) grid[i] *= decay;
    });
    for (int64_t i = 0; i < n; ++i) {
        float& cell = grid[indices[i]];
        cell = densities[i] > cell ? densities[i] : cell;  // what is no number changes nothing
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
            float some[W] = {};  // of a few thousand: float32 is enough, and quick
            int32_t few[W] = {};
            const int64_t stop = begin + 4096 < end ? begin + 4096 : end;
            auto add = [&](int64_t i, int lane) {
                some[lane] += grid[i] >= 0.0f ? grid[i] : 0.0f;
                few[lane] += grid[i] >= 0.0f;
            };
            int64_t i = begin;
            for (; i + W <= stop; i += W)
                for (int lane = 0; lane < W; ++lane) add(i + lane, lane);
            for (; i < stop; ++i) add(i, 0);
            for (int lane = 0; lane < W; ++lane) sum += some[lane], count += few[lane];
        }
        sums[task] = sum, known[task] = count;
    });
    double sum = 0.0;
    int64_t count = 0;
    for (int64_t task = 0; task < chunks; ++task) sum += sums[task], count += known[task];
    const double typical = 0.5 * sum / (double)(count > 0 ? count : 1);
    const float threshold = typical < cap ? (float)typical : cap;
    parallel(chunks, [&](int64_t task) {
        const float *from = grid, limit = threshold;  // a byte may lie anywhere: what is read must not seem to change with it
        uint8_t* to = occupied;
        const int64_t end = part(cells, task + 1, chunks);
        for (int64_t i = part(cells, task, chunks); i < end; ++i) to[i] = (from[i] > limit) | (from[i] < 0.0f);
    });
}
