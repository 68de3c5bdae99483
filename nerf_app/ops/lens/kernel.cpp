// Newton's method for bent lenses, ray by ray: most are there after three or four steps.
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr int NEWTON_STEPS = 25;
constexpr double TOLERANCE_PX = 1e-10;  // as ops/lens/__init__.py has them

// Where a base point (a, b) falls, and the derivatives of that; c: its lens's coefficients, `stride` apart.
struct Bent {
    double x, y, xa, xb, ya, yb;
    Bent(const double* c, int64_t stride, double a, double b) {
        const double k1 = c[0], k2 = c[stride], k3 = c[2 * stride], k4 = c[3 * stride], d1 = c[4 * stride], d2 = c[5 * stride],
                     d3 = c[6 * stride], p1 = c[7 * stride], p2 = c[8 * stride], s1 = c[9 * stride], s2 = c[10 * stride],
                     s3 = c[11 * stride], s4 = c[12 * stride];
        const double s = a * a + b * b, below = 1 + s * (d1 + s * (d2 + s * d3));
        const double factor = (1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))) / below;
        const double slope =
            (k1 + s * (2 * k2 + s * (3 * k3 + s * 4 * k4)) - factor * (d1 + s * (2 * d2 + s * 3 * d3))) / below;  // by s
        x = a * factor + 2 * p1 * a * b + p2 * (s + 2 * a * a) + s * (s1 + s * s2);
        y = b * factor + 2 * p2 * a * b + p1 * (s + 2 * b * b) + s * (s3 + s * s4);
        const double shared = 2 * (a * b * slope + p1 * a + p2 * b);
        const double prism_x = 2 * (s1 + 2 * s * s2), prism_y = 2 * (s3 + 2 * s * s4);  // by s, doubled
        xa = factor + 2 * a * a * slope + 2 * p1 * b + 6 * p2 * a + prism_x * a, xb = shared + prism_x * b;
        ya = shared + prism_y * a, yb = factor + 2 * b * b * slope + 2 * p2 * a + 6 * p1 * b + prism_y * b;
    }
};

}  // namespace

KERNEL(straighten)(const double* picture, const double* guess, const int64_t* cameras, const double* coefficients,
                   const double* focal_px, const double* valid_radius, int64_t n, int64_t n_cameras, double* base, bool* is_found) {
    const int64_t chunks = tasks_for(n, 512);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(n, task, chunks); i < part(n, task + 1, chunks); ++i) {
            const int64_t camera = cameras[i];
            double a = guess[2 * i], b = guess[2 * i + 1];
            bool is_there = false, is_near = false;
            for (int step = 0; step < NEWTON_STEPS && !is_near && std::isfinite(a) && std::isfinite(b); ++step) {
                const Bent at(coefficients + camera, n_cameras, a, b);
                const double x = picture[2 * i] - at.x, y = picture[2 * i + 1] - at.y, area = at.xa * at.yb - at.xb * at.ya;
                is_near = std::fabs(x * focal_px[2 * camera]) <= TOLERANCE_PX &&
                          std::fabs(y * focal_px[2 * camera + 1]) <= TOLERANCE_PX;
                is_there = is_near && std::sqrt(a * a + b * b) <= valid_radius[camera] && area > 0;
                a += (at.yb * x - at.xb * y) / area;  // the last step, from a near place, reaches rounding
                b += (at.xa * y - at.ya * x) / area;
            }
            base[2 * i] = is_there ? a : 0.0, base[2 * i + 1] = is_there ? b : 0.0, is_found[i] = is_there;
        }
    });
}
