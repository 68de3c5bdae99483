// The integrated directional encoding, a register of directions at a time.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr int BANDS[] = {1, 2, 4, 8, 16}, N_BANDS = 5, LAST = 16, HALF = 36;  // values of each, real and imaginary

struct Factors {  // of the recurrences, as the reference has them
    float start[LAST + 1], up[LAST + 1][LAST + 1], back[LAST + 1][LAST + 1];  // [m], [m][band]
    int place[LAST + 1];  // of a band's first value; -1: it is none of ours

    Factors() {
        double product = 1.0 / (4.0 * std::acos(-1.0));
        for (int m = 0; m <= LAST; ++m) {
            if (m > 0) product *= (2.0 * m - 1.0) / (2.0 * m);
            start[m] = (float)((m % 2 ? -1.0 : 1.0) * std::sqrt((2.0 * m + 1.0) * product));
            place[m] = -1;
            for (int l = m; l <= LAST; ++l) {
                const double next = (l + 1.0) * (l + 1.0) - (double)m * m;
                up[m][l] = (float)std::sqrt((2.0 * l + 1.0) * (2.0 * l + 3.0) / next);
                back[m][l] = l ? (float)std::sqrt((2.0 * l + 3.0) * ((double)l * l - (double)m * m) / ((2.0 * l - 1.0) * next)) : 0.0f;
            }
        }
        int first = 0;
        for (int band : BANDS) place[band] = first, first += band + 1;
    }
};

const Factors FACTORS;

// Calls what(m, band, place, polynomial, its derivative) for every harmonic; [LANES] directions each.
template <class What>
inline void for_polynomials(Vector z, What&& what) {
    for (int m = 0; m <= LAST; ++m) {
        Vector before{}, here = broadcast(FACTORS.start[m]), before_slope{}, slope{};
        for (int l = m; l <= LAST; ++l) {
            if (FACTORS.place[l] >= 0) what(m, l, FACTORS.place[l] + m, here, slope);
            const Vector up = broadcast(FACTORS.up[m][l]), back = broadcast(FACTORS.back[m][l]);
            const Vector next = up * z * here - back * before, next_slope = up * (here + z * slope) - back * before_slope;
            before = here, here = next, before_slope = slope, slope = next_slope;
        }
    }
}

struct Lanes {  // some directions, one behind the other; those that are missing are zeros
    Vector x{}, y{}, z{};
    Vector real[LAST + 1], imaginary[LAST + 1];  // (x + iy)^m
    float kept[LAST + 1][W];                     // what the spread leaves of a band

    Lanes(const float* directions, const float* spread, int count) {
        for (int i = 0; i < count; ++i) x[i] = directions[3 * i], y[i] = directions[3 * i + 1], z[i] = directions[3 * i + 2];
        real[0] = broadcast(1.0f), imaginary[0] = Vector{};
        for (int m = 1; m <= LAST; ++m) {
            real[m] = real[m - 1] * x - imaginary[m - 1] * y;
            imaginary[m] = real[m - 1] * y + imaginary[m - 1] * x;
        }
        for (int band : BANDS)
            for (int i = 0; i < W; ++i) kept[band][i] = i < count ? std::exp(-0.5f * band * (band + 1) * spread[i]) : 0.0f;
    }
};

// Calls work(lanes, number of the first direction, how many) for all directions, a register of them at a time.
template <class Work>
void for_lanes(const float* directions, const float* spread, int64_t n, Work&& work) {
    const int64_t blocks = (n + W - 1) / W, chunks = tasks_for(blocks, 16);
    parallel(chunks, [&](int64_t task) {
        for (int64_t block = part(blocks, task, chunks); block < part(blocks, task + 1, chunks); ++block) {
            const int64_t first = block * W;
            const int count = (int)(n - first < W ? n - first : W);
            work(Lanes(directions + 3 * first, spread + first, count), first, count);
        }
    });
}

}  // namespace

KERNEL(directional_forward)(const float* directions, const float* spread, int64_t n, float* out) {
    for_lanes(directions, spread, n, [&](const Lanes& lanes, int64_t first, int count) {
        for_polynomials(lanes.z, [&](int m, int band, int place, Vector value, Vector) {
            const Vector kept = *(const Vector*)lanes.kept[band] * value;
            const Vector real = kept * lanes.real[m], imaginary = kept * lanes.imaginary[m];
            for (int i = 0; i < count; ++i) {
                out[(first + i) * 2 * HALF + place] = real[i];
                out[(first + i) * 2 * HALF + HALF + place] = imaginary[i];
            }
        });
    });
}

KERNEL(directional_backward)(const float* directions, const float* spread, int64_t n, const float* d_out, float* d_directions,
                             float* d_spread) {
    for_lanes(directions, spread, n, [&](const Lanes& lanes, int64_t first, int count) {
        Vector d_x{}, d_y{}, d_z{}, sum{};
        for_polynomials(lanes.z, [&](int m, int band, int place, Vector value, Vector slope) {
            Vector d_real{}, d_imaginary{};
            for (int i = 0; i < count; ++i) {
                d_real[i] = d_out[(first + i) * 2 * HALF + place];
                d_imaginary[i] = d_out[(first + i) * 2 * HALF + HALF + place];
            }
            const Vector kept = *(const Vector*)lanes.kept[band];
            const Vector along = kept * (d_real * lanes.real[m] + d_imaginary * lanes.imaginary[m]);
            sum -= broadcast(0.5f * band * (band + 1)) * along * value;
            d_z += along * slope;
            if (m == 0) return;
            const Vector factor = broadcast((float)m) * kept * value, re = lanes.real[m - 1], im = lanes.imaginary[m - 1];
            d_x += factor * (d_real * re + d_imaginary * im);
            d_y += factor * (d_imaginary * re - d_real * im);
        });
        for (int i = 0; i < count; ++i) {
            float* d = d_directions + 3 * (first + i);
            d[0] = d_x[i], d[1] = d_y[i], d[2] = d_z[i];
            d_spread[first + i] = sum[i];
        }
    });
}
