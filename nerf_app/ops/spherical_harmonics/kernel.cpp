// Spherical harmonics: sixteen polynomials of a direction, in the order and with the signs of the reference.
#include <cmath>

#include "../native/native.hpp"

namespace {

const float PI = 3.14159265358979f;
const float ZERO = std::sqrt(1 / (4 * PI)), ONE = std::sqrt(3 / (4 * PI));
const float TWO = std::sqrt(15 / (4 * PI)), TWO_ZZ = std::sqrt(5 / (16 * PI)), TWO_XX = std::sqrt(15 / (16 * PI));
const float THREE_3 = std::sqrt(35 / (32 * PI)), THREE_1 = std::sqrt(21 / (32 * PI)), THREE_0 = std::sqrt(7 / (16 * PI));
const float THREE_XYZ = std::sqrt(105 / (4 * PI)), THREE_2 = std::sqrt(105 / (16 * PI));

}  // namespace

KERNEL(spherical_harmonics_forward)(const float* directions, int64_t n, float* out) {
    const int64_t chunks = tasks_for(n, 4096);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(n, task, chunks); i < part(n, task + 1, chunks); ++i) {
            const float x = directions[3 * i], y = directions[3 * i + 1], z = directions[3 * i + 2];
            const float xx = x * x, yy = y * y, zz = z * z;
            const float values[16] = {
                ZERO, -ONE * y, ONE * z, -ONE * x,
                TWO * x * y, -TWO * y * z, TWO_ZZ * (3 * zz - 1), -TWO * x * z, TWO_XX * (xx - yy),
                THREE_3 * y * (yy - 3 * xx), THREE_XYZ * x * y * z, THREE_1 * y * (1 - 5 * zz), THREE_0 * z * (5 * zz - 3),
                THREE_1 * x * (1 - 5 * zz), THREE_2 * z * (xx - yy), THREE_3 * x * (3 * yy - xx)};
            std::memcpy(out + 16 * i, values, sizeof values);
        }
    });
}

KERNEL(spherical_harmonics_backward)(const float* directions, int64_t n, const float* d_out, float* d_directions) {
    const int64_t chunks = tasks_for(n, 4096);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(n, task, chunks); i < part(n, task + 1, chunks); ++i) {
            const float x = directions[3 * i], y = directions[3 * i + 1], z = directions[3 * i + 2];
            const float xx = x * x, yy = y * y, zz = z * z;
            const float* d = d_out + 16 * i;
            d_directions[3 * i] = -ONE * d[3] + TWO * y * d[4] - TWO * z * d[7] + 2 * TWO_XX * x * d[8] - 6 * THREE_3 * x * y * d[9] +
                                  THREE_XYZ * y * z * d[10] + THREE_1 * (1 - 5 * zz) * d[13] + 2 * THREE_2 * x * z * d[14] +
                                  3 * THREE_3 * (yy - xx) * d[15];
            d_directions[3 * i + 1] = -ONE * d[1] + TWO * x * d[4] - TWO * z * d[5] - 2 * TWO_XX * y * d[8] +
                                      3 * THREE_3 * (yy - xx) * d[9] + THREE_XYZ * x * z * d[10] + THREE_1 * (1 - 5 * zz) * d[11] -
                                      2 * THREE_2 * y * z * d[14] + 6 * THREE_3 * x * y * d[15];
            d_directions[3 * i + 2] = ONE * d[2] - TWO * y * d[5] + 6 * TWO_ZZ * z * d[6] - TWO * x * d[7] + THREE_XYZ * x * y * d[10] -
                                      10 * THREE_1 * y * z * d[11] + THREE_0 * (15 * zz - 3) * d[12] - 10 * THREE_1 * x * z * d[13] +
                                      THREE_2 * (xx - yy) * d[14];
        }
    });
}
