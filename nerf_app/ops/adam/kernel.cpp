// Adam: most numbers of a table have no gradient in a step, so sixteen of them are looked at together and passed over.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr float BETA_1 = 0.9f, BETA_2 = 0.99f, EPSILON = 1e-15f, PULL = 1e-6f;
constexpr int64_t LINE = 16;

inline Vector root(Vector x) {
    Vector roots;
    for (int lane = 0; lane < W; ++lane) roots[lane] = std::sqrt(x[lane]);
    return roots;
}

// Sixteen numbers of a table: those without a gradient stay as they are.
inline void move_line(float* parameters, float* gradients, float* first, float* second, float rate, float scale) {
    for (int64_t i = 0; i < LINE; i += W) {
        const Vector gradient = *(Vector*)(gradients + i), old_m = *(Vector*)(first + i), old_v = *(Vector*)(second + i);
        const Integers is_moved = gradient != 0.0f;
        const Vector m = old_m + (1.0f - BETA_1) * (gradient - old_m);
        const Vector v = old_v + (1.0f - BETA_2) * (gradient * gradient - old_v);
        const Vector way = rate * m / (root(v * scale) + EPSILON);
        *(Vector*)(first + i) = is_moved ? m : old_m;
        *(Vector*)(second + i) = is_moved ? v : old_v;
        *(Vector*)(parameters + i) -= is_moved ? way : Vector{};
        *(Vector*)(gradients + i) = Vector{};
    }
}

}  // namespace

KERNEL(adam_step)(float* parameters, float* gradients, float* first, float* second, int64_t n, int64_t table_size,
                  float learning_rate, float correction_1, float correction_2) {
    const int64_t lines = (n + LINE - 1) / LINE, chunks = tasks_for(lines, 1024);
    const float rate = learning_rate / correction_1, scale = 1.0f / correction_2;
    parallel(chunks, [&](int64_t task) {
        const int64_t last = part(lines, task + 1, chunks);
        for (int64_t line = part(lines, task, chunks); line < last; ++line) {
            const int64_t begin = line * LINE, end = begin + LINE < n ? begin + LINE : n;
            if (begin + LINE <= table_size) {
                if (!is_zero(gradients + begin, LINE))
                    move_line(parameters + begin, gradients + begin, first + begin, second + begin, rate, scale);
                continue;
            }
            for (int64_t i = begin; i < end; ++i) {
                const bool is_net = i >= table_size;
                if (!is_net && gradients[i] == 0.0f) continue;
                const float gradient = gradients[i] + (is_net ? PULL * parameters[i] : 0.0f);
                first[i] += (1.0f - BETA_1) * (gradient - first[i]);
                second[i] += (1.0f - BETA_2) * (gradient * gradient - second[i]);
                parameters[i] -= rate * first[i] / (std::sqrt(second[i] * scale) + EPSILON);
                gradients[i] = 0.0f;
            }
        }
    });
}
