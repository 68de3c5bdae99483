// The whole way of a ray through a hash-grid field in one pass: what the samples of a ray need of one another stays in the
// nearest caches, and where the light is gone the rest of the ray is never asked.
//
// Rays are followed in waves: the next few samples of every ray that still has light, all encoded level by level, all through
// the density net in tiles. Colours are asked in tiles too, as soon as enough samples turned out to be seen.
#include "../composite/light.hpp"
#include "../hashgrid/grid.hpp"
#include "../march/space.hpp"
#include "../mlp/net.hpp"
#include "../native/exponential.hpp"
#include "../spherical_harmonics/harmonics.hpp"

namespace {

constexpr float SEEN = 1e-5f, CLAMP = 15.0f;  // as the reference has them
constexpr int WAVE = 8;                                      // samples of a ray that are asked together
constexpr int SH = 16;                                       // numbers of a direction

struct Packed {  // rays and their samples, as the caller hands them over
    const float *origins, *directions, *t_starts, *t_ends;
    const int64_t *ray_starts, *ray_counts;
    bool is_bounded;

    float middle(int64_t sample) const { return 0.5f * (t_starts[sample] + t_ends[sample]); }

    void place(int64_t ray, int64_t sample, float* unit) const {
        const float t = middle(sample), *o = origins + 3 * ray, *d = directions + 3 * ray;
        const auto place = to_unit(o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2], is_bounded);
        unit[0] = place.x, unit[1] = place.y, unit[2] = place.z;
    }
};

struct Grid {
    const float* table;
    const Level* levels;
    int n_levels, features;

    int width() const { return n_levels * features; }
};

struct Nets {
    std::vector<Layer> density, colour;
    bool is_view_dependent;
    int channels;  // of the colour net's outputs: those that are summed over a ray, before opacity and distance

    int geometry() const { return density.back().out; }
    int sums() const { return channels + 2; }
};

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

void direction_values(const Packed& rays, const Nets& nets, int64_t ray, float* out) {
    if (nets.is_view_dependent) harmonics(rays.directions + 3 * ray, out);
    else std::memset(out, 0, sizeof(float) * SH);
}

// Seen samples wait here until a tile of them is full.
struct Colours {
    const Nets& nets;
    Values values;
    int rows = 0;
    int64_t samples[TILE], rays[TILE];
    float weights[TILE];

    explicit Colours(const Nets& nets) : nets(nets), values(nets.colour) {}

    void add(int64_t ray, int64_t sample, float weight, const float* geometry, const float* direction, float* sums, float* rgb) {
        float* row = values.row(0, rows);
        std::memcpy(row, geometry, sizeof(float) * nets.geometry());
        std::memcpy(row + nets.geometry(), direction, sizeof(float) * SH);
        samples[rows] = sample, rays[rows] = ray, weights[rows] = weight;
        if (++rows == TILE) flush(sums, rgb);
    }

    void flush(float* sums, float* rgb) {
        const int last = (int)nets.colour.size();
        forward_tile(nets.colour, rows, values, true);
        float* all = values.row(last, 0);
        for (int64_t i = 0; i < (int64_t)rows * values.wide[last]; ++i) all[i] = sigmoid(all[i]);
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < nets.channels; ++c) {
                const float value = values.row(last, r)[c];
                sums[rays[r] * nets.sums() + c] += weights[r] * value;
                if (rgb) rgb[samples[r] * nets.channels + c] = value;
            }
        rows = 0;
    }
};

struct Light {  // how far a ray has come
    int64_t ray, next, end;
    float left;
};

struct Wave {
    std::vector<float> unit, features, hidden;     // [P][3], [P][width], [P][geometry]
    std::vector<float> lengths, density, stopped;  // [P] of each sample, and what part of the light that arrives it stops
    int64_t count = 0;

    // The next samples of all rays through grid and density net.
    void ask(const std::vector<Light>& alive, const Packed& rays, const Grid& grid, const Nets& nets, Values& values) {
        count = 0;
        unit.resize(alive.size() * WAVE * 3);
        lengths.resize(alive.size() * WAVE);
        for (const Light& light : alive)
            for (int64_t s = light.next; s < light.end && s < light.next + WAVE; ++s, ++count) {
                rays.place(light.ray, s, &unit[3 * count]);
                lengths[count] = rays.t_ends[s] - rays.t_starts[s];
            }
        features.resize(count * grid.width());
        hidden.resize(count * nets.geometry());
        density.resize(count);
        stopped.resize(count);
        with_sizes(3, grid.features, [&](auto d, auto f) {
            for (int l = 0; l < grid.n_levels; ++l)
                forward_level<d, f>(unit.data(), 0, count, grid.table, grid.levels[l], l, grid.width(), features.data());
        });
        for (int64_t start = 0; start < count; start += TILE) {
            const int rows = (int)(count - start < TILE ? count - start : TILE);
            for (int r = 0; r < rows; ++r)
                std::memcpy(values.row(0, r), &features[(start + r) * grid.width()], sizeof(float) * grid.width());
            forward_tile(nets.density, rows, values, true);
            for (int r = 0; r < rows; ++r) {
                const float* row = values.row((int)nets.density.size(), r);
                std::memcpy(&hidden[(start + r) * nets.geometry()], row, sizeof(float) * nets.geometry());
                density[start + r] = row[0] > CLAMP ? CLAMP : row[0];
            }
        }
        for (int64_t i = 0; i < count; ++i) {
            density[i] = exponential(density[i]);
            stopped[i] = -exponential_less_one(-depth_of(density[i], lengths[i]));
        }
    }
};

struct Seen {  // what the forward pass leaves; the last four are null where nothing will flow back
    float *sums, *weights, *features, *rgb, *density;
    int64_t* lit;  // [R] how many samples of each ray the light reaches
};

void follow(int64_t first, int64_t last, const Packed& rays, const Grid& grid, const Nets& nets, float least, const Seen& out) {
    std::vector<Light> alive;
    std::vector<float> directions((last - first) * SH);
    for (int64_t r = first; r < last; ++r) {
        std::memset(out.sums + r * nets.sums(), 0, sizeof(float) * nets.sums());
        if (out.lit) out.lit[r] = 0;
        if (rays.ray_counts[r] == 0) continue;
        direction_values(rays, nets, r, &directions[(r - first) * SH]);
        alive.push_back({r, rays.ray_starts[r], rays.ray_starts[r] + rays.ray_counts[r], 1.0f});
    }
    Wave wave;
    Values values(nets.density);
    Colours colours(nets);
    while (!alive.empty()) {
        wave.ask(alive, rays, grid, nets, values);
        int64_t point = 0;
        size_t kept = 0;
        for (Light light : alive) {
            const int64_t stop = light.next + WAVE < light.end ? light.next + WAVE : light.end;
            const int64_t behind = point + stop - light.next;
            for (; light.next < stop && light.left >= least; ++light.next, ++point) {
                const int64_t s = light.next;
                const float* hidden = &wave.hidden[point * nets.geometry()];
                const float stopped = wave.stopped[point], weight = out.weights[s] = light.left * stopped;
                light.left *= 1.0f - stopped;
                float* behind_colours = out.sums + light.ray * nets.sums() + nets.channels;
                behind_colours[0] += weight;
                behind_colours[1] += weight * rays.middle(s);
                if (out.lit) {
                    ++out.lit[light.ray];
                    out.density[s] = wave.density[point];
                    std::memcpy(out.features + s * grid.width(), &wave.features[point * grid.width()], sizeof(float) * grid.width());
                }
                if (weight > SEEN)
                    colours.add(light.ray, s, weight, hidden, &directions[(light.ray - first) * SH], out.sums, out.rgb);
            }
            point = behind;
            if (light.next < light.end && light.left >= least) alive[kept++] = light;
        }
        alive.resize(kept);
    }
    colours.flush(out.sums, out.rgb);
}

struct Gradients {  // of what the forward pass gave, and where they go
    const float *d_sums, *d_weights;  // d_weights may be null
    const int64_t* places;            // [R] where a ray's lit samples begin in the two below
    float *unit, *d_features;         // [M][3], [M][width]
};

// Lit samples wait here until a tile of them is full.
struct Backward {
    const Packed& rays;
    const Grid& grid;
    const Nets& nets;
    const Seen& seen;
    const Gradients& out;
    Sums &density_sums, &colour_sums;
    Values values, gradients, colour_values, colour_gradients;
    int rows = 0, coloured = 0;
    int row_of[TILE];     // the row of each coloured one
    int64_t places[TILE];
    float d_hidden[TILE];  // by the number that becomes the density
    std::vector<float> parts;  // of the light that each sample of a ray lets through

    Backward(const Packed& rays, const Grid& grid, const Nets& nets, const Seen& seen, const Gradients& out, Sums& density_sums,
             Sums& colour_sums)
        : rays(rays), grid(grid), nets(nets), seen(seen), out(out), density_sums(density_sums), colour_sums(colour_sums),
          values(nets.density), gradients(nets.density), colour_values(nets.colour), colour_gradients(nets.colour) {}

    // d_tau of a sample: what it lets through less what it hides behind it.
    void ray(int64_t r) {
        const float* d_sum = out.d_sums + r * nets.sums();
        const int64_t begin = rays.ray_starts[r], end = begin + seen.lit[r];
        float direction[SH];
        direction_values(rays, nets, r, direction);
        double hidden = 0.0, left = 1.0;
        parts.resize(end - begin);
        passing(seen.density + begin, rays.t_starts + begin, rays.t_ends + begin, end - begin, parts.data());
        for (int64_t s = begin; s < end; ++s) hidden += (double)d_weight(d_sum, s) * seen.weights[s];
        for (int64_t s = begin; s < end; ++s) {
            const float gain = d_weight(d_sum, s), length = rays.t_ends[s] - rays.t_starts[s], tau = seen.density[s] * length;
            hidden -= (double)gain * seen.weights[s];
            left *= parts[s - begin];  // behind this sample
            const float d_tau = tau > OPAQUE ? 0.0f : (float)(gain * left - hidden);
            add(r, s, out.places[r] + s - begin, d_tau * tau, d_sum, direction);
        }
    }

    float d_weight(const float* d_sum, int64_t s) const {
        const int channels = nets.channels;
        float sum = d_sum[channels] + d_sum[channels + 1] * rays.middle(s) + (out.d_weights ? out.d_weights[s] : 0.0f);
        if (seen.weights[s] > SEEN)
            for (int c = 0; c < channels; ++c) sum += d_sum[c] * seen.rgb[s * channels + c];
        return sum;
    }

    void add(int64_t r, int64_t s, int64_t place, float d_first, const float* d_sum, const float* direction) {
        rays.place(r, s, out.unit + 3 * place);
        std::memcpy(values.row(0, rows), seen.features + s * grid.width(), sizeof(float) * grid.width());
        places[rows] = place, d_hidden[rows] = d_first;
        if (seen.weights[s] > SEEN) {
            std::memcpy(colour_values.row(0, coloured) + nets.geometry(), direction, sizeof(float) * SH);
            float* d_out = colour_gradients.row((int)nets.colour.size(), coloured);
            for (int c = 0; c < nets.channels; ++c) {
                const float value = seen.rgb[s * nets.channels + c];
                d_out[c] = seen.weights[s] * d_sum[c] * value * (1.0f - value);
            }
            row_of[coloured++] = rows;
        }
        if (++rows == TILE) flush();
    }

    void flush() {
        const int geometry = nets.geometry(), last = (int)nets.density.size();
        forward_tile(nets.density, rows, values, true);
        for (int r = 0; r < coloured; ++r)
            std::memcpy(colour_values.row(0, r), values.row(last, row_of[r]), sizeof(float) * geometry);
        forward_tile(nets.colour, coloured, colour_values, false);
        backward_tile(nets.colour, coloured, colour_values, colour_gradients, colour_sums, true);
        for (int r = 0; r < rows; ++r) std::memset(gradients.row(last, r), 0, sizeof(float) * geometry);
        for (int r = 0; r < coloured; ++r)
            std::memcpy(gradients.row(last, row_of[r]), colour_gradients.row(0, r), sizeof(float) * geometry);
        for (int r = 0; r < rows; ++r) gradients.row(last, r)[0] += d_hidden[r];
        backward_tile(nets.density, rows, values, gradients, density_sums, true);
        for (int r = 0; r < rows; ++r)
            std::memcpy(out.d_features + places[r] * grid.width(), gradients.row(0, r), sizeof(float) * grid.width());
        rows = coloured = 0;
    }
};

}  // namespace

// `weights` comes filled with zeros.
KERNEL(field_step_forward)(const float* origins, const float* directions, const float* t_starts, const float* t_ends,
                           const int64_t* ray_starts, const int64_t* ray_counts, int64_t n_rays, int is_bounded,
                           const float* table, int features, const Level* levels, int n_levels,
                           const float* const* density, const int* density_widths, int n_density,
                           const float* const* colour, const int* colour_widths, int n_colour, int is_view_dependent, int channels,
                           float least_light, float* sums, float* weights, float* kept_features, float* rgb, float* densities, int64_t* lit) {
    const Packed rays{origins, directions, t_starts, t_ends, ray_starts, ray_counts, is_bounded != 0};
    const Grid grid{table, levels, n_levels, features};
    const Nets nets{packed(density, nullptr, density_widths, n_density), packed(colour, nullptr, colour_widths, n_colour),
                    is_view_dependent != 0, channels};
    const Seen out{sums, weights, kept_features, rgb, densities, lit};
    const float least = least_light > DARK ? least_light : DARK;
    const int64_t chunks = tasks_for(n_rays, 16);
    parallel(chunks, [&](int64_t task) {
        follow(part(n_rays, task, chunks), part(n_rays, task + 1, chunks), rays, grid, nets, least, out);
    });
}

// d_density[l] and d_colour[l] are overwritten, d_table is added to; it may be null.
KERNEL(field_step_backward)(const float* origins, const float* directions, const float* t_starts, const float* t_ends,
                            const int64_t* ray_starts, const int64_t* ray_counts, int64_t n_rays, int is_bounded,
                            const float* table, int features, const Level* levels, int n_levels,
                            const float* const* density, const int* density_widths, int n_density,
                            const float* const* colour, const int* colour_widths, int n_colour, int is_view_dependent, int channels,
                            float* weights, float* kept_features, float* rgb, float* densities, int64_t* lit,
                            const float* d_sums, const float* d_weights, const int64_t* places, int64_t n_lit, float* unit,
                            float* d_features, float* const* d_density, float* const* d_colour, float* d_table) {
    const Packed rays{origins, directions, t_starts, t_ends, ray_starts, ray_counts, is_bounded != 0};
    const Grid grid{table, levels, n_levels, features};
    const Nets nets{packed(density, nullptr, density_widths, n_density), packed(colour, nullptr, colour_widths, n_colour),
                    is_view_dependent != 0, channels};
    const Seen seen{nullptr, weights, kept_features, rgb, densities, lit};
    const Gradients out{d_sums, d_weights, places, unit, d_features};
    const int64_t chunks = tasks_for(n_rays, 16);
    std::vector<Sums> density_sums(chunks, Sums(nets.density, false)), colour_sums(chunks, Sums(nets.colour, false));
    parallel(chunks, [&](int64_t task) {
        Backward backward(rays, grid, nets, seen, out, density_sums[task], colour_sums[task]);
        for (int64_t r = part(n_rays, task, chunks); r < part(n_rays, task + 1, chunks); ++r) backward.ray(r);
        backward.flush();
    });
    add_up(nets.density, density_sums, d_density, nullptr);
    add_up(nets.colour, colour_sums, d_colour, nullptr);
    if (!d_table) return;
    with_sizes(3, features, [&](auto d, auto f) {
        parallel(n_levels, [&](int64_t l) {
            backward_level<d, f>(unit, n_lit, d_features, levels[l], (int)l, grid.width(), d_table);
        });
    });
}
