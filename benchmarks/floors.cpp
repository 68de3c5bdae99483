// The least that an op could cost: its arithmetic without memory, its memory traffic without arithmetic.
#include "../nerf_app/ops/native/native.hpp"

// Fused multiply-adds between registers: 12 of them a round, which do not wait for each other.
extern "C" __attribute__((visibility("default"))) void fma_loop(int64_t rounds, float* out) {
    Vector sum[12];
    for (int i = 0; i < 12; ++i) sum[i] = broadcast((float)i);
    const Vector factor = broadcast(out[0]), term = broadcast(out[1]);
    for (int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < 12; ++i) sum[i] = sum[i] * factor + term;
    for (int i = 1; i < 12; ++i) sum[0] += sum[i];
    out[0] = sum[0][0];
}

// Looks at n places along a ray in a grid of 8³ cells that never leaves the cache; the ray stays within it.
extern "C" __attribute__((visibility("default"))) void look(const uint8_t* occupied, const float* ray, int64_t n, int64_t* count) {
    const float step = 7.0f / (float)n;
    int32_t found = 0;
    for (int32_t k = 0; k < (int32_t)n; ++k) {
        const float t = (float)k * step;
        const int32_t x = (int32_t)(ray[0] + t * ray[3]), y = (int32_t)(ray[1] + t * ray[4]), z = (int32_t)(ray[2] + t * ray[5]);
        found += occupied[(z * 8 + y) * 8 + x];
    }
    *count = found;
}

// Reads `corners` rows of four floats for each point, and writes their sum.
extern "C" __attribute__((visibility("default"))) void gather(const float* table, const int32_t* rows, int64_t n, int64_t corners,
                                                              float* out) {
    for (int64_t i = 0; i < n; ++i) {
        Four sum{};
        for (int64_t c = 0; c < corners; ++c) sum += *(const Four*)(table + 4 * (int64_t)rows[i * corners + c]);
        *(Four*)(out + 4 * i) = sum;
    }
}

// Adds a point's four floats to `corners` rows.
extern "C" __attribute__((visibility("default"))) void scatter(float* table, const int32_t* rows, int64_t n, int64_t corners,
                                                               const float* values) {
    for (int64_t i = 0; i < n; ++i) {
        const Four value = *(const Four*)(values + 4 * i);
        for (int64_t c = 0; c < corners; ++c) *(Four*)(table + 4 * (int64_t)rows[i * corners + c]) += value;
    }
}
