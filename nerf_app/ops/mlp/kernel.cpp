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

namespace {

// Carries a cotangent of the pulled gradients the other way, and adds up the gradients of the matrices.
void push_tile(const std::vector<Layer>& layers, int rows, const Values& values, const Values& gradients, Values& tangents,
               Sums& sums) {
    for (int l = 0; l < (int)layers.size(); ++l) {
        const Layer& layer = layers[l];
        const Rows behind = values.rows(l + 1);
        add_products(layer, l, rows, tangents, gradients, sums.matrices[l]);
        const auto to = [&](auto&& end) {
            product(tangents.numbers(l), layer.inputs(), tangents.rows(l + 1), rows, layer.wide_out, layer.in, zero, end);
        };
        if (l + 1 < (int)layers.size()) to([&](int m, int n, Vector sum) { return behind(m, n) > 0.0f ? sum : Vector{}; });
        else to(as_it_is);
    }
}

// What pulling back and its own backward pass share: tile by tile, the values in front of each layer and the gradients.
template <class Work>
void for_pulled_tiles(const float* x, int64_t begin, int64_t end, const std::vector<Layer>& layers, const float* d_y, Work&& work) {
    Values values(layers), gradients(layers);
    const int in = layers.front().in, out = layers.back().out, last = (int)layers.size();
    for (int64_t start = begin; start < end; start += TILE) {
        const int rows = (int)(end - start < TILE ? end - start : TILE);
        for (int r = 0; r < rows; ++r) {
            std::memcpy(values.row(0, r), x + (start + r) * in, sizeof(float) * in);
            std::memcpy(gradients.row(last, r), d_y + (start + r) * out, sizeof(float) * out);
        }
        forward_tile(layers, rows, values, false);
        for (int l = (int)layers.size() - 1; l >= 0; --l) pull_layer(layers, l, rows, values, gradients);
        work(start, rows, values, gradients);
    }
}

}  // namespace

KERNEL(mlp_pull_forward)(const float* x, int64_t n, const float* const* matrices, const float* const* biases, const int* widths,
                         int n_layers, const float* d_y, float* d_x) {
    const std::vector<Layer> layers = packed(matrices, biases, widths, n_layers);
    const int64_t chunks = tasks_for(n, TILE);
    parallel(chunks, [&](int64_t task) {
        for_pulled_tiles(x, part(n, task, chunks), part(n, task + 1, chunks), layers, d_y,
                         [&](int64_t start, int rows, Values&, Values& gradients) {
            for (int r = 0; r < rows; ++r)
                std::memcpy(d_x + (start + r) * widths[0], gradients.row(0, r), sizeof(float) * widths[0]);
        });
    });
}

// `cotangent` is that of d_x; `pushed` becomes that of d_y, and d_matrices[l] are overwritten.
KERNEL(mlp_pull_backward)(const float* x, int64_t n, const float* const* matrices, const float* const* biases, const int* widths,
                          int n_layers, const float* d_y, const float* cotangent, float* pushed, float* const* d_matrices) {
    const std::vector<Layer> layers = packed(matrices, biases, widths, n_layers);
    const int64_t chunks = tasks_for(n, 4 * TILE);
    std::vector<Sums> sums(chunks, Sums(layers, false));
    parallel(chunks, [&](int64_t task) {
        Values tangents(layers);
        const int in = widths[0], out = widths[n_layers];
        for_pulled_tiles(x, part(n, task, chunks), part(n, task + 1, chunks), layers, d_y,
                         [&](int64_t start, int rows, Values& values, Values& gradients) {
            for (int r = 0; r < rows; ++r) std::memcpy(tangents.row(0, r), cotangent + (start + r) * in, sizeof(float) * in);
            push_tile(layers, rows, values, gradients, tangents, sums[task]);
            for (int r = 0; r < rows; ++r)
                std::memcpy(pushed + (start + r) * out, tangents.row(n_layers, r), sizeof(float) * out);
        });
    });
    add_up(layers, sums, d_matrices, nullptr);
}
