// A dense net over a tile of points, whose values stay in the nearest cache while it passes all layers.
//
// All three products (forward, gradient by input, gradient by weights) are one small kernel: lanes lie along the columns of
// the result, and a block of it stays in registers while the sum runs.
#pragma once
#include <vector>

#include "../native/native.hpp"

namespace {

constexpr int TILE = 96;                        // points
constexpr int ROWS = 6;                         // of the block in registers
constexpr int VECTORS = LANES == 4 ? 2 : LANES == 8 ? 2 : 4;  // of its columns

inline int padded(int width) { return (width + W - 1) / W * W; }

// C[m][n] (+)= sum over k of A[m·am + k·ak] · B[k][n], for R rows and V vectors of columns.
template <int R, int V>
inline void block(const float* a, int64_t am, int64_t ak, const float* b, int64_t bk, float* c, int64_t cm, int depth,
                  bool is_added) {
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = is_added ? *(const Vector*)(c + r * cm + v * W) : Vector{};
    for (int k = 0; k < depth; ++k) {
        Vector row[V];
        for (int v = 0; v < V; ++v) row[v] = *(const Vector*)(b + k * bk + v * W);
        for (int r = 0; r < R; ++r) {
            const Vector factor = broadcast(a[r * am + k * ak]);
            for (int v = 0; v < V; ++v) sum[r][v] += factor * row[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) *(Vector*)(c + r * cm + v * W) = sum[r][v];
}

template <int V>
void columns(const float* a, int64_t am, int64_t ak, const float* b, int64_t bk, float* c, int64_t cm, int rows, int depth,
             bool is_added) {
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS) block<ROWS, V>(a + r * am, am, ak, b, bk, c + r * cm, cm, depth, is_added);
    for (; r + 2 <= rows; r += 2) block<2, V>(a + r * am, am, ak, b, bk, c + r * cm, cm, depth, is_added);
    for (; r < rows; ++r) block<1, V>(a + r * am, am, ak, b, bk, c + r * cm, cm, depth, is_added);
}

// `width` is a multiple of W.
void product(const float* a, int64_t am, int64_t ak, const float* b, int64_t bk, float* c, int64_t cm, int rows, int width,
             int depth, bool is_added) {
    int n = 0;
    for (; n + VECTORS * W <= width; n += VECTORS * W)
        columns<VECTORS>(a, am, ak, b + n, bk, c + n, cm, rows, depth, is_added);
    if (VECTORS == 4 && n + 2 * W <= width) {
        columns<2>(a, am, ak, b + n, bk, c + n, cm, rows, depth, is_added);
        n += 2 * W;
    }
    for (; n < width; n += W) columns<1>(a, am, ak, b + n, bk, c + n, cm, rows, depth, is_added);
}

struct Layer {
    int in, out;                      // widths
    int wide_in, wide_out;            // padded to whole vectors
    std::vector<float> weights;       // [out][wide_in]
    std::vector<float> transposed;    // [in][wide_out]
    std::vector<float> bias;          // [wide_out]

    Layer(const float* matrix, const float* biases, int in, int out)
        : in(in), out(out), wide_in(padded(in)), wide_out(padded(out)), weights((size_t)out * wide_in, 0.0f),
          transposed((size_t)in * wide_out, 0.0f), bias(wide_out, 0.0f) {
        for (int o = 0; o < out; ++o)
            for (int i = 0; i < in; ++i)
                weights[(size_t)o * wide_in + i] = transposed[(size_t)i * wide_out + o] = matrix[(size_t)o * in + i];
        if (biases) std::memcpy(bias.data(), biases, sizeof(float) * out);
    }
};

std::vector<Layer> packed(const float* const* matrices, const float* const* biases, const int* widths, int n_layers) {
    std::vector<Layer> layers;
    layers.reserve(n_layers);
    for (int l = 0; l < n_layers; ++l) layers.emplace_back(matrices[l], biases ? biases[l] : nullptr, widths[l], widths[l + 1]);
    return layers;
}

// The values of a tile in front of each layer and behind the last one, rows padded with zeros.
struct Values {
    std::vector<std::vector<float>> at;
    std::vector<int> wide;

    explicit Values(const std::vector<Layer>& layers) {
        for (const Layer& layer : layers) wide.push_back(layer.wide_in);
        wide.push_back(layers.back().wide_out);
        for (int width : wide) at.emplace_back((size_t)TILE * width, 0.0f);
    }

    float* row(int layer, int r) { return &at[layer][(size_t)r * wide[layer]]; }
};

// Carries the values of `rows` points from in front of the first layer onwards.
void forward_tile(const std::vector<Layer>& layers, int rows, Values& values, bool is_last_wanted) {
    const int count = (int)layers.size() - (is_last_wanted ? 0 : 1);
    for (int l = 0; l < count; ++l) {
        const Layer& layer = layers[l];
        float* out = values.at[l + 1].data();
        for (int r = 0; r < rows; ++r) std::memcpy(out + (size_t)r * layer.wide_out, layer.bias.data(), sizeof(float) * layer.wide_out);
        product(values.at[l].data(), values.wide[l], 1, layer.transposed.data(), layer.wide_out, out, layer.wide_out, rows,
                layer.wide_out, layer.in, true);
        if (l + 1 < (int)layers.size())
            for (int64_t i = 0; i < (int64_t)rows * layer.wide_out; ++i) out[i] = out[i] < 0.0f ? 0.0f : out[i];
    }
}

// The gradients of a net's parameters, as one task adds them up.
struct Sums {
    std::vector<std::vector<float>> matrices, biases;  // [out][wide_in], [out] or nothing

    Sums(const std::vector<Layer>& layers, bool has_biases) {
        for (const Layer& layer : layers) {
            matrices.emplace_back((size_t)layer.out * layer.wide_in, 0.0f);
            biases.emplace_back(has_biases ? layer.out : 0, 0.0f);
        }
    }
};

// Carries the gradients of `rows` points from behind the last layer to the front of the second one, of the first one where
// `is_input_wanted`, and adds up those of the parameters. `values` are those that the points have in front of each layer.
void backward_tile(const std::vector<Layer>& layers, int rows, const Values& values, Values& gradients, Sums& sums,
                   bool is_input_wanted) {
    for (int l = (int)layers.size() - 1; l >= 0; --l) {
        const Layer& layer = layers[l];
        const float* d_out = gradients.at[l + 1].data();
        const float* in = values.at[l].data();
        product(d_out, 1, layer.wide_out, in, layer.wide_in, sums.matrices[l].data(), layer.wide_in, layer.out, layer.wide_in, rows,
                true);
        if (!sums.biases[l].empty())
            for (int r = 0; r < rows; ++r)
                for (int o = 0; o < layer.out; ++o) sums.biases[l][o] += d_out[(size_t)r * layer.wide_out + o];
        if (l == 0 && !is_input_wanted) return;
        float* d_in = gradients.at[l].data();
        product(d_out, layer.wide_out, 1, layer.weights.data(), layer.wide_in, d_in, layer.wide_in, rows, layer.wide_in, layer.out,
                false);
        if (l > 0)
            for (int64_t i = 0; i < (int64_t)rows * layer.wide_in; ++i) d_in[i] = in[i] > 0.0f ? d_in[i] : 0.0f;
    }
}

// All tasks' sums in their order, into matrices [out][in] and biases [out], which are overwritten.
void add_up(const std::vector<Layer>& layers, const std::vector<Sums>& tasks, float* const* d_matrices, float* const* d_biases) {
    for (size_t l = 0; l < layers.size(); ++l) {
        const Layer& layer = layers[l];
        std::memset(d_matrices[l], 0, sizeof(float) * layer.in * layer.out);
        if (d_biases) std::memset(d_biases[l], 0, sizeof(float) * layer.out);
        for (const Sums& sums : tasks) {
            for (int o = 0; o < layer.out; ++o)
                for (int i = 0; i < layer.in; ++i)
                    d_matrices[l][(size_t)o * layer.in + i] += sums.matrices[l][(size_t)o * layer.wide_in + i];
            for (size_t o = 0; o < sums.biases[l].size(); ++o) d_biases[l][o] += sums.biases[l][o];
        }
    }
}

}  // namespace
