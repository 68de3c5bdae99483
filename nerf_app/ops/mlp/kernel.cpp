// Dense nets, tile by tile. The backward pass computes a tile's hidden values again rather than fetching them from memory.
#include "net.hpp"

KERNEL(mlp_forward)(const float* x, int64_t n, const float* const* matrices, const float* const* biases, const int* widths,
                    int n_layers, float* y) {
    const std::vector<Layer> layers = packed(matrices, biases, widths, n_layers);
    const int out = widths[n_layers];
    const int64_t chunks = tasks_for(n, TILE);
    parallel(chunks, [&](int64_t task) {
        Values values(layers);
        const int64_t end = part(n, task + 1, chunks);
        for (int64_t start = part(n, task, chunks); start < end; start += TILE) {
            const int rows = (int)(end - start < TILE ? end - start : TILE);
            for (int r = 0; r < rows; ++r)
                std::memcpy(values.row(0, r), x + (start + r) * widths[0], sizeof(float) * widths[0]);
            forward_tile(layers, rows, values, true);
            for (int r = 0; r < rows; ++r) std::memcpy(y + (start + r) * out, values.row(n_layers, r), sizeof(float) * out);
        }
    });
}

// d_matrices[l] and d_biases[l] are overwritten; d_x may be null.
KERNEL(mlp_backward)(const float* x, int64_t n, const float* const* matrices, const float* const* biases, const int* widths,
                     int n_layers, const float* d_y, float* d_x, float* const* d_matrices, float* const* d_biases) {
    const std::vector<Layer> layers = packed(matrices, biases, widths, n_layers);
    const int64_t chunks = tasks_for(n, 4 * TILE);
    std::vector<Sums> sums(chunks, Sums(layers, biases != nullptr));
    parallel(chunks, [&](int64_t task) {
        Values values(layers), gradients(layers);
        const int out = widths[n_layers];
        const int64_t end = part(n, task + 1, chunks);
        for (int64_t next = part(n, task, chunks); next < end;) {
            int64_t points[TILE];  // those of the next points that have a gradient at all
            int rows = 0;
            for (; next < end && rows < TILE; ++next) {
                if (!is_zero(d_y + next * out, out))
                    points[rows++] = next;
                else if (d_x)
                    std::memset(d_x + next * widths[0], 0, sizeof(float) * widths[0]);
            }
            for (int r = 0; r < rows; ++r) {
                std::memcpy(values.row(0, r), x + points[r] * widths[0], sizeof(float) * widths[0]);
                std::memcpy(gradients.row(n_layers, r), d_y + points[r] * out, sizeof(float) * out);
            }
            forward_tile(layers, rows, values, false);
            backward_tile(layers, rows, values, gradients, sums[task], d_x != nullptr);
            for (int r = 0; d_x && r < rows; ++r)
                std::memcpy(d_x + points[r] * widths[0], gradients.row(0, r), sizeof(float) * widths[0]);
        }
    });
    add_up(layers, sums, d_matrices, d_biases);
}
