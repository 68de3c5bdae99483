// The two spaces of sampling/contraction.py, operation by operation as it has them.
#pragma once
#include <cmath>

namespace {

constexpr float LINEAR = 2.0f, FAR = 200.0f;  // as sampling/contraction.py has them

inline float distance_at(float s, bool is_bounded) {
    if (is_bounded || s <= LINEAR) return s;
    float rest = 2.0f * LINEAR - s;
    return LINEAR * LINEAR / (rest > LINEAR * LINEAR / FAR ? rest : LINEAR * LINEAR / FAR);
}

inline float lattice_at(float t, bool is_bounded) {
    if (is_bounded || t <= LINEAR) return t;
    return 2.0f * LINEAR - LINEAR * LINEAR / t;
}

inline float clamped(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // what is no number becomes 0

// Scene coordinates -> the unit cube, in place.
inline void to_unit(float& x, float& y, float& z, bool is_bounded) {
    if (is_bounded) {
        x = 0.5f * (x + 1.0f), y = 0.5f * (y + 1.0f), z = 0.5f * (z + 1.0f);
    } else {
        float m = std::fabs(x);
        m = std::fabs(y) > m ? std::fabs(y) : m;
        m = std::fabs(z) > m ? std::fabs(z) : m;
        m = m > 1.0f ? m : 1.0f;
        float factor = (2.0f - 1.0f / m) / m;
        x = (x * factor + 2.0f) * 0.25f, y = (y * factor + 2.0f) * 0.25f, z = (z * factor + 2.0f) * 0.25f;
    }
    x = clamped(x), y = clamped(y), z = clamped(z);
}

}  // namespace
