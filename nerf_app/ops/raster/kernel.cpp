// Rasterising: each task has a band of rows to itself and draws into it, in order, every face that reaches there.
//
// The arithmetic is the reference's, operation by operation in float64 without fused multiply-adds, so that both give the
// same face wherever two are equally near.
#include <cfloat>
#include <cmath>

#include "../native/native.hpp"

namespace {

constexpr double SUBPIXELS = 4096.0;  // as the contract has it

struct Corner {
    double x, y, inverse;  // 1 / depth
};

// Twice the area between an edge and a point is dx (y - y0) - dy (x - x0), from the edge's upper end to the lower, and
// above zero on the face's side. A point is on that side from `least` on: zero belongs to one of the two faces at the edge.
struct Edge {
    double x0, y0, dx, dy, least;
};

// The first and the last row or column of 0...size - 1 with pixel centres from `low` to `high`.
struct Range {
    int32_t first, last;
    Range(double low, double high, int64_t size) {
        low = std::ceil(low - 0.5), high = std::floor(high - 0.5);
        first = (int32_t)(low > 0.0 ? (low < (double)size ? low : (double)size) : 0.0);
        last = (int32_t)(high > -1.0 ? (high < (double)size - 1.0 ? high : (double)size - 1.0) : -1.0);
    }
};

inline double lowest(double a, double b, double c) { return std::fmin(std::fmin(a, b), c); }
inline double highest(double a, double b, double c) { return std::fmax(std::fmax(a, b), c); }

inline Edge edge_between(const Corner& start, const Corner& end, bool is_left) {
    const bool is_turned = start.y > end.y || (start.y == end.y && start.x > end.x);
    const Corner &low = is_turned ? end : start, &high = is_turned ? start : end;
    const double dx = high.x - low.x, dy = high.y - low.y, side = is_left != is_turned ? 1.0 : -1.0;
    return {low.x, low.y, side * dx, side * dy, (side > 0.0) == (dy == 0.0) ? 0.0 : DBL_MIN};
}

inline double area_at(const Edge& edge, double x, double y) { return edge.dx * (y - edge.y0) - edge.dy * (x - edge.x0); }

// A face's corners on the grid of subpixels and its edges, each opposite to its corner.
struct Face {
    Corner corners[3];
    Edge edges[3];

    // False where nothing is to be drawn.
    bool read(const float* all, const int64_t* of) {
        for (int k = 0; k < 3; ++k) {
            const float x = all[3 * of[k]], y = all[3 * of[k] + 1], depth = all[3 * of[k] + 2];
            if (!(std::isfinite(x) && std::isfinite(y) && std::isfinite(depth) && depth > 0.0f)) return false;
            corners[k] = {std::nearbyint((double)x * SUBPIXELS) / SUBPIXELS, std::nearbyint((double)y * SUBPIXELS) / SUBPIXELS,
                          1.0 / (double)depth};
        }
        const double area = area_at(edge_between(corners[0], corners[1], true), corners[2].x, corners[2].y);
        for (int k = 0; k < 3; ++k) edges[k] = edge_between(corners[(k + 1) % 3], corners[(k + 2) % 3], area > 0.0);
        return area != 0.0;
    }

    Range rows(int64_t height) const {
        return {lowest(corners[0].y, corners[1].y, corners[2].y), highest(corners[0].y, corners[1].y, corners[2].y), height};
    }
    Range columns(int64_t width) const {
        return {lowest(corners[0].x, corners[1].x, corners[2].x), highest(corners[0].x, corners[1].x, corners[2].x), width};
    }
};

struct Picture {
    int64_t width;
    int32_t* face_indices;  // [H, W]
    float* barycentrics;    // [H, W, 3]
    float* depth;           // [H, W]

    void clear(int64_t first, int64_t end) {
        for (int64_t i = first * width; i < end * width; ++i) {
            face_indices[i] = -1, depth[i] = INFINITY;
            for (int k = 0; k < 3; ++k) barycentrics[3 * i + k] = 0.0f;
        }
    }

    void draw(const Face& face, int64_t index, int64_t first, int64_t last) {
        const Range columns = face.columns(width);
        for (int64_t row = first; row <= last; ++row)
            for (int64_t column = columns.first; column <= columns.last; ++column) {
                double areas[3];
                bool is_inside = true;
                for (int k = 0; k < 3; ++k) {
                    areas[k] = area_at(face.edges[k], (double)column + 0.5, (double)row + 0.5);
                    is_inside &= areas[k] >= face.edges[k].least;
                }
                if (is_inside) put(face, index, areas, row * width + column);
            }
    }

    void put(const Face& face, int64_t index, const double* areas, int64_t pixel) {
        const double p = areas[0] * face.corners[0].inverse, q = areas[1] * face.corners[1].inverse,
                     r = areas[2] * face.corners[2].inverse, total = p + q + r;
        const float found = (float)((areas[0] + areas[1] + areas[2]) / total);
        if (!(found < depth[pixel])) return;
        depth[pixel] = found, face_indices[pixel] = (int32_t)index;
        float* shares = barycentrics + 3 * pixel;
        shares[0] = (float)(p / total), shares[1] = (float)(q / total), shares[2] = (float)(r / total);
    }
};

}  // namespace

// The first and the last row with pixel centres of each face's bounding box: [2, F]. Nothing to draw: the last before the first.
KERNEL(raster_rows)(const float* corners, const int64_t* faces, int64_t n_faces, int64_t height, int32_t* rows) {
    const int64_t chunks = tasks_for(n_faces, 1024);
    parallel(chunks, [&](int64_t task) {
        for (int64_t f = part(n_faces, task, chunks); f < part(n_faces, task + 1, chunks); ++f) {
            Face face;
            const bool is_drawn = face.read(corners, faces + 3 * f);
            const Range range = is_drawn ? face.rows(height) : Range(0.0, 0.0, 0);
            rows[f] = range.first, rows[n_faces + f] = range.last;
        }
    });
}

KERNEL(raster_draw)(const float* corners, const int64_t* faces, int64_t n_faces, const int32_t* rows, int64_t height,
                    int64_t width, int32_t* face_indices, float* barycentrics, float* depth) {
    const int64_t bands = tasks_for(height, 16);
    parallel(bands, [&](int64_t task) {
        Picture picture{width, face_indices, barycentrics, depth};
        const int64_t begin = part(height, task, bands), end = part(height, task + 1, bands);
        picture.clear(begin, end);
        for (int64_t f = 0; f < n_faces; ++f) {
            const int64_t first = rows[f] > begin ? rows[f] : begin;
            const int64_t last = rows[n_faces + f] < end - 1 ? rows[n_faces + f] : end - 1;
            Face face;
            if (first <= last && face.read(corners, faces + 3 * f)) picture.draw(face, f, first, last);
        }
    });
}
