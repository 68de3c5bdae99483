// e^x as plain arithmetic: a loop that calls it becomes vectors, which calls of the C library's do not.
#pragma once
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

struct Power {  // e^x = scale · (1 + rest), in which scale is a power of two
    float scale, rest;
};

// Beyond -87 and 88 it stays what it is there; what is no number stays none.
inline Power power_of_e(float x) {
    constexpr float MAGIC = 12582912.0f;  // 1.5 · 2^23: the sum's last bits are the nearest integer
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + MAGIC, n = shifted - MAGIC;
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;  // ln 2 in two parts, the first of few digits
    float rest = 1.0f / 5040;
    for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f}) rest = rest * r + factor;
    uint32_t bits;
    std::memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return {scale, rest * r};
}

inline float exponential(float x) {
    const Power power = power_of_e(x);
    return power.scale * power.rest + power.scale;
}

// e^x - 1, with all its digits where x is small.
inline float exponential_less_one(float x) {
    const Power power = power_of_e(x);
    return power.scale * power.rest + (power.scale - 1.0f);
}

}  // namespace
