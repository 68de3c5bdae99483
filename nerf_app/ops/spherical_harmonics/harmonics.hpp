// Sixteen polynomials of a direction, in the order and with the signs of the reference.
#pragma once
#include <cmath>
#include <cstring>

namespace {

const float PI = 3.14159265358979f;
const float ZERO = std::sqrt(1 / (4 * PI)), ONE = std::sqrt(3 / (4 * PI));
const float TWO = std::sqrt(15 / (4 * PI)), TWO_ZZ = std::sqrt(5 / (16 * PI)), TWO_XX = std::sqrt(15 / (16 * PI));
const float THREE_3 = std::sqrt(35 / (32 * PI)), THREE_1 = std::sqrt(21 / (32 * PI)), THREE_0 = std::sqrt(7 / (16 * PI));
const float THREE_XYZ = std::sqrt(105 / (4 * PI)), THREE_2 = std::sqrt(105 / (16 * PI));

// [3] unit vector -> [16].
inline void harmonics(const float* direction, float* out) {
    const float x = direction[0], y = direction[1], z = direction[2];
    const float xx = x * x, yy = y * y, zz = z * z;
    const float values[16] = {
        ZERO, -ONE * y, ONE * z, -ONE * x,
        TWO * x * y, -TWO * y * z, TWO_ZZ * (3 * zz - 1), -TWO * x * z, TWO_XX * (xx - yy),
        THREE_3 * y * (yy - 3 * xx), THREE_XYZ * x * y * z, THREE_1 * y * (1 - 5 * zz), THREE_0 * z * (5 * zz - 3),
        THREE_1 * x * (1 - 5 * zz), THREE_2 * z * (xx - yy), THREE_3 * x * (3 * yy - xx)};
    std::memcpy(out, values, sizeof values);
}

}  // namespace
