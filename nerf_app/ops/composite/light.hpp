// What a sample does to light, as the reference has it.
#pragma once

namespace {

constexpr float OPAQUE = 64.0f, DARK = 1e-4f;

// Optical depth of a sample; a wall counts as OPAQUE, and what is no number stays none.
inline float depth_of(float density, float length) {
    const float tau = density * length;
    return tau > OPAQUE ? OPAQUE : tau;
}

}  // namespace
