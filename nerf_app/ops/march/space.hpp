// The two spaces of sampling/contraction.py, operation by operation as it has them, for one number or a vector of them.
#pragma once

namespace {

constexpr float LINEAR = 2.0f, FAR = 200.0f;  // as sampling/contraction.py has them

template <class T>
inline T larger(T x, T y) {
    return x > y ? x : y;
}

template <class T>
inline T distance_at(T s, bool is_bounded) {
    if (is_bounded) return s;
    const T rest = 2.0f * LINEAR - s, least = T{} + LINEAR * LINEAR / FAR;
    return s <= LINEAR ? s : LINEAR * LINEAR / larger(rest, least);
}

inline float lattice_at(float t, bool is_bounded) {
    if (is_bounded || t <= LINEAR) return t;
    return 2.0f * LINEAR - LINEAR * LINEAR / t;
}

template <class T>
inline T clamped(T x) {  // what is no number becomes 0
    const T zero{}, one = zero + 1.0f;
    return x > zero ? (x < one ? x : one) : zero;
}

template <class T>
struct Place {
    T x, y, z;
};

// Scene coordinates -> the unit cube.
template <class T>
inline Place<T> to_unit(T x, T y, T z, bool is_bounded) {
    if (is_bounded) {
        x = 0.5f * (x + 1.0f), y = 0.5f * (y + 1.0f), z = 0.5f * (z + 1.0f);
    } else {
        const T m = larger(larger(larger(larger(x, -x), larger(y, -y)), larger(z, -z)), T{} + 1.0f);
        const T factor = (2.0f - 1.0f / m) / m;
        x = (x * factor + 2.0f) * 0.25f, y = (y * factor + 2.0f) * 0.25f, z = (z * factor + 2.0f) * 0.25f;
    }
    return {clamped(x), clamped(y), clamped(z)};
}

}  // namespace
