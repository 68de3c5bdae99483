// A dense net over a tile of points, whose values stay in the nearest cache while it passes all layers.
//
// All three products (forward, gradient by input, gradient by weights) are one small kernel: lanes lie along the columns of
// the result, and a block of it stays in registers while the sum runs.
#pragma once
#include <vector>

#include "../native/native.hpp"

namespace {

constexpr int TILE = 48;                        // points
constexpr int ROWS = 6;                         // of the block in registers
constexpr int NARROW_ROWS = 12;                 // where it is a single vector wide
constexpr int VECTORS = LANES == 4 ? 2 : LANES == 8 ? 2 : 4;  // of its columns

inline int padded(int width) { return (width + W - 1) / W * W; }

struct Factor {  // number k of row m
    const float* at;
    int64_t row, step;

    float operator()(int m, int k) const { return at[m * row + k * step]; }
};

struct Rows {  // each of them whole vectors wide
    float* at;
    int64_t row;

    Vector& operator()(int m, int n) const { return *(Vector*)(at + m * row + n); }
};

// C[m][n] = end(m, n, begin(m, n) + sum over k of A[m][k] · B[k][n]), for R rows and V vectors of columns from (m, n) on.
template <int R, int V, class Begin, class End>
inline void block(const Factor& a, const Rows& b, const Rows& c, int m, int n, int depth, Begin& begin, End& end) {
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = begin(m + r, n + v * W);
    for (int k = 0; k < depth; ++k) {
        Vector row[V];
        for (int v = 0; v < V; ++v) row[v] = b(k, n + v * W);
        for (int r = 0; r < R; ++r) {
            const Vector factor = broadcast(a(m + r, k));
            for (int v = 0; v < V; ++v) sum[r][v] += factor * row[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) c(m + r, n + v * W) = end(m + r, n + v * W, sum[r][v]);
}

template <int V, class Begin, class End>
void columns(const Factor& a, const Rows& b, const Rows& c, int rows, int n, int depth, Begin& begin, End& end) {
    constexpr int MOST = V == 1 ? NARROW_ROWS : ROWS;
    int m = 0;
    for (; m + MOST <= rows; m += MOST) block<MOST, V>(a, b, c, m, n, depth, begin, end);
    for (; m + 2 <= rows; m += 2) block<2, V>(a, b, c, m, n, depth, begin, end);
    for (; m < rows; ++m) block<1, V>(a, b, c, m, n, depth, begin, end);
}

// `width` is a multiple of W.
template <class Begin, class End>
void product(const Factor& a, const Rows& b, const Rows& c, int rows, int width, int depth, Begin&& begin, End&& end) {
    int n = 0;
    for (; n + VECTORS * W <= width; n += VECTORS * W) columns<VECTORS>(a, b, c, rows, n, depth, begin, end);
    if (VECTORS == 4 && n + 2 * W <= width) {
        columns<2>(a, b, c, rows, n, depth, begin, end);
        n += 2 * W;
    }
    for (; n < width; n += W) columns<1>(a, b, c, rows, n, depth, begin, end);
}

inline Vector zero(int, int) { return Vector{}; }
inline Vector as_it_is(int, int, Vector sum) { return sum; }
inline Vector rectified(int, int, Vector sum) { return sum < 0.0f ? Vector{} : sum; }  // what is no number stays none

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

    Rows inputs() const { return {const_cast<float*>(transposed.data()), wide_out}; }  // a row for each
    Rows outputs() const { return {const_cast<float*>(weights.data()), wide_in}; }
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
    Rows rows(int layer) const { return {const_cast<float*>(at[layer].data()), wide[layer]}; }
    Factor numbers(int layer) const { return {at[layer].data(), wide[layer], 1}; }
    Factor columns(int layer) const { return {at[layer].data(), 1, wide[layer]}; }  // the other way round
};

// Carries the values of `rows` points from in front of the first layer onwards.
void forward_tile(const std::vector<Layer>& layers, int rows, Values& values, bool is_last_wanted) {
    const int last = (int)layers.size() - 1;
    for (int l = 0; l < last + (is_last_wanted ? 1 : 0); ++l) {
        const Layer& layer = layers[l];
        const auto bias = [&](int, int n) { return *(const Vector*)&layer.bias[n]; };
        const auto to = [&](auto&& end) {
            product(values.numbers(l), layer.inputs(), values.rows(l + 1), rows, layer.wide_out, layer.in, bias, end);
        };
        if (l < last) to(rectified);
        else to(as_it_is);
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

// Carries the gradients of `rows` points from behind layer l to its front, and through the ReLUs there.
void pull_layer(const std::vector<Layer>& layers, int l, int rows, const Values& values, Values& gradients) {
    const Layer& layer = layers[l];
    const Rows in = values.rows(l);
    const auto to = [&](auto&& end) {
        product(gradients.numbers(l + 1), layer.outputs(), gradients.rows(l), rows, layer.wide_in, layer.out, zero, end);
    };
    if (l > 0) to([&](int m, int n, Vector sum) { return in(m, n) > 0.0f ? sum : Vector{}; });
    else to(as_it_is);
}

// Adds the products of what is behind layer l, in `gradients`, and what is in front of it, in `values`, to a matrix.
void add_products(const Layer& layer, int l, int rows, const Values& values, const Values& gradients, std::vector<float>& matrix) {
    const Rows sums{matrix.data(), layer.wide_in};
    product(gradients.columns(l + 1), values.rows(l), sums, layer.out, layer.wide_in, rows, sums, as_it_is);
}

// Carries the gradients of `rows` points from behind the last layer to the front of the second one, of the first one where
// `is_input_wanted`, and adds up those of the parameters. `values` are those that the points have in front of each layer.
void backward_tile(const std::vector<Layer>& layers, int rows, const Values& values, Values& gradients, Sums& sums,
                   bool is_input_wanted) {
    for (int l = (int)layers.size() - 1; l >= 0; --l) {
        const Layer& layer = layers[l];
        add_products(layer, l, rows, values, gradients, sums.matrices[l]);
        if (!sums.biases[l].empty())
            for (int r = 0; r < rows; ++r)
                for (int o = 0; o < layer.out; ++o) sums.biases[l][o] += gradients.row(l + 1, r)[o];
        if (l > 0 || is_input_wanted) pull_layer(layers, l, rows, values, gradients);
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
