// What a sample does to light, as the reference has it.
#pragma once
#include "../native/exponential.hpp"

namespace {

constexpr float OPAQUE = 64.0f, DARK = 1e-4f;

// Optical depth of a sample; a wall counts as OPAQUE, and what is no number stays none.
inline float depth_of(float density, float length) {
    const float tau = density * length;
    return tau > OPAQUE ? OPAQUE : tau;
}

// What part of the light that arrives at each of `count` samples comes out behind it.
inline void passing(const float* density, const float* t_starts, const float* t_ends, int64_t count, float* parts) {
    for (int64_t i = 0; i < count; ++i) parts[i] = exponential(-depth_of(density[i], t_ends[i] - t_starts[i]));
}

}  // namespace
