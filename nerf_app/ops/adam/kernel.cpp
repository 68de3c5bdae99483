// Adam: most numbers of a table have no gradient in a step, so sixteen of them are looked at together and passed over.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr float BETA_1 = 0.9f, BETA_2 = 0.99f, EPSILON = 1e-15f, PULL = 1e-6f;
constexpr int64_t LINE = 16;

}  // namespace

KERNEL(adam_step)(float* parameters, float* gradients, float* first, float* second, int64_t n, int64_t table_size,
                  float learning_rate, float correction_1, float correction_2) {
    const int64_t lines = (n + LINE - 1) / LINE, chunks = tasks_for(lines, 1024);
    const float rate = learning_rate / correction_1, scale = 1.0f / correction_2;
    parallel(chunks, [&](int64_t task) {
        for (int64_t line = part(lines, task, chunks); line < part(lines, task + 1, chunks); ++line) {
            const int64_t begin = line * LINE, end = begin + LINE < n ? begin + LINE : n;
            if (end <= table_size && is_zero(gradients + begin, end - begin)) continue;
            for (int64_t i = begin; i < end; ++i) {
                const bool is_net = i >= table_size;
                const float gradient = gradients[i] + (is_net ? PULL * parameters[i] : 0.0f);
                const bool is_moved = is_net || gradients[i] != 0.0f;
                const float m = first[i] + (1.0f - BETA_1) * (gradient - first[i]);
                const float v = second[i] + (1.0f - BETA_2) * (gradient * gradient - second[i]);
                first[i] = is_moved ? m : first[i];
                second[i] = is_moved ? v : second[i];
                parameters[i] -= is_moved ? rate * m / (std::sqrt(v * scale) + EPSILON) : 0.0f;
                gradients[i] = 0.0f;
            }
        }
    });
}
