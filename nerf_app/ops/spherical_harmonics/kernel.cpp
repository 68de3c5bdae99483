// Spherical harmonics of many directions.
#include "../native/native.hpp"
#include "harmonics.hpp"

KERNEL(spherical_harmonics_forward)(const float* directions, int64_t n, float* out) {
    const int64_t chunks = tasks_for(n, 4096);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(n, task, chunks); i < part(n, task + 1, chunks); ++i) harmonics(directions + 3 * i, out + 16 * i);
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
