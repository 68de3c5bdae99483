// Compositing as a loop along each ray: no sum over the batch, so float32 is enough.
#include <cmath>

#include "../native/native.hpp"
#include "light.hpp"

namespace {

constexpr int64_t BLOCK = 32;  // samples whose exponentials are taken together

// Calls work(ray, begin, end) for the samples of each ray; tasks are cut where a ray ends. Unused entries are not met.
template <class Work>
void for_rays(const int64_t* ray_indices, int64_t n, int64_t n_rays, Work&& work) {
    const int64_t chunks = tasks_for(n, 2048);
    auto cut = [&](int64_t task) {
        int64_t place = part(n, task, chunks);
        while (place > 0 && place < n && ray_indices[place] == ray_indices[place - 1]) ++place;
        return place;
    };
    parallel(chunks, [&](int64_t task) {
        const int64_t end = cut(task + 1);
        for (int64_t begin = cut(task); begin < end;) {
            const int64_t ray = ray_indices[begin];
            if (ray >= n_rays) return;
            int64_t stop = begin + 1;
            while (stop < end && ray_indices[stop] == ray) ++stop;
            work(ray, begin, stop);
            begin = stop;
        }
    });
}

}  // namespace

// `weights` comes filled with zeros.
KERNEL(render_weights_forward)(const float* density, const float* t_starts, const float* t_ends, const int64_t* ray_indices,
                               int64_t n, int64_t n_rays, float* weights) {
    for_rays(ray_indices, n, n_rays, [&](int64_t, int64_t begin, int64_t end) {
        float left = 1.0f, stopped[BLOCK];
        for (int64_t i = begin; i < end && left >= DARK;) {
            const int64_t stop = i + BLOCK < end ? i + BLOCK : end;
            for (int64_t j = i; j < stop; ++j) stopped[j - i] = -exponential_less_one(-depth_of(density[j], t_ends[j] - t_starts[j]));
            for (const float* part = stopped; i < stop && left >= DARK; ++i, ++part) {
                weights[i] = left * *part;
                left *= 1.0f - *part;
            }
        }
    });
}

// d_tau of a sample: what it lets through less what it hides behind it. All outputs come filled with zeros.
KERNEL(render_weights_backward)(const float* density, const float* t_starts, const float* t_ends, const int64_t* ray_indices,
                                int64_t n, int64_t n_rays, const float* weights, const float* d_weights, float* d_density,
                                float* d_t_starts, float* d_t_ends) {
    for_rays(ray_indices, n, n_rays, [&](int64_t, int64_t begin, int64_t end) {
        double hidden = 0.0, left = 1.0;
        float parts[BLOCK];
        for (int64_t i = begin; i < end; ++i) hidden += (double)d_weights[i] * weights[i];
        for (int64_t i = begin; i < end && left >= DARK;) {
            const int64_t stop = i + BLOCK < end ? i + BLOCK : end;
            passing(density + i, t_starts + i, t_ends + i, stop - i, parts);
            for (const float* part = parts; i < stop && left >= DARK; ++i, ++part) {
                const float length = t_ends[i] - t_starts[i], tau = density[i] * length;
                hidden -= (double)d_weights[i] * weights[i];
                left *= *part;  // behind this sample
                const float d_tau = tau > OPAQUE ? 0.0f : (float)(d_weights[i] * left - hidden);
                d_density[i] = d_tau * length;
                if (d_t_starts) d_t_starts[i] = -d_tau * density[i], d_t_ends[i] = d_tau * density[i];
            }
        }
    });
}

// `sums` comes filled with zeros.
KERNEL(accumulate_forward)(const float* weights, const float* values, int channels, const int64_t* ray_indices, int64_t n,
                           int64_t n_rays, float* sums) {
    for_rays(ray_indices, n, n_rays, [&](int64_t ray, int64_t begin, int64_t end) {
        float* sum = sums + ray * channels;
        for (int64_t i = begin; i < end; ++i)
            for (int c = 0; c < channels; ++c) sum[c] += weights[i] * values[i * channels + c];
    });
}

// Both outputs come filled with zeros.
KERNEL(accumulate_backward)(const float* weights, const float* values, int channels, const int64_t* ray_indices, int64_t n,
                            int64_t n_rays, const float* d_sums, float* d_weights, float* d_values) {
    for_rays(ray_indices, n, n_rays, [&](int64_t ray, int64_t begin, int64_t end) {
        const float* d_sum = d_sums + ray * channels;
        for (int64_t i = begin; i < end; ++i) {
            float d_weight = 0.0f;
            for (int c = 0; c < channels; ++c) {
                d_weight += values[i * channels + c] * d_sum[c];
                d_values[i * channels + c] = weights[i] * d_sum[c];
            }
            d_weights[i] = d_weight;
        }
    });
}

// `distances` comes filled with NaN.
KERNEL(distance_of_light)(const float* weights, const float* t_starts, const float* t_ends, const int64_t* ray_indices, int64_t n,
                          int64_t n_rays, float part, float* distances) {
    for_rays(ray_indices, n, n_rays, [&](int64_t ray, int64_t begin, int64_t end) {
        double ahead = 0.0;
        for (int64_t i = begin; i < end; ++i) {
            const double through = ahead + weights[i];
            if (through >= part) {
                const double before = 1.0 - ahead, behind = std::fmax(1.0 - through, 1.1920929e-7);
                const float inside = (float)(std::log(before / (1.0 - part)) / std::log(before / behind));
                distances[ray] = t_starts[i] + inside * (t_ends[i] - t_starts[i]);
                return;
            }
            ahead = through;
        }
    });
}

// `spread` comes filled with zeros. Sums are double: the distances of two near samples are small beside their places.
KERNEL(distortion_forward)(const float* weights, const float* s_starts, const float* s_ends, const int64_t* ray_indices,
                           int64_t n, int64_t n_rays, float* spread) {
    for_rays(ray_indices, n, n_rays, [&](int64_t ray, int64_t begin, int64_t end) {
        double ahead = 0.0, moment = 0.0, sum = 0.0;
        for (int64_t i = begin; i < end; ++i) {
            const double w = weights[i], middle = 0.5f * (s_starts[i] + s_ends[i]);
            sum += 2.0 * w * (middle * ahead - moment) + w * w * (s_ends[i] - s_starts[i]) / 3.0;
            ahead += w, moment += w * middle;
        }
        spread[ray] = (float)sum;
    });
}

// `d_weights` comes filled with zeros.
KERNEL(distortion_backward)(const float* weights, const float* s_starts, const float* s_ends, const int64_t* ray_indices,
                            int64_t n, int64_t n_rays, const float* d_spread, float* d_weights) {
    for_rays(ray_indices, n, n_rays, [&](int64_t ray, int64_t begin, int64_t end) {
        double ahead = 0.0, moment = 0.0, behind = 0.0, moment_behind = 0.0;
        for (int64_t i = begin; i < end; ++i) {
            behind += weights[i];
            moment_behind += (double)weights[i] * (0.5f * (s_starts[i] + s_ends[i]));
        }
        for (int64_t i = begin; i < end; ++i) {
            const double w = weights[i], middle = 0.5f * (s_starts[i] + s_ends[i]);
            behind -= w, moment_behind -= w * middle;
            const double apart = middle * ahead - moment + moment_behind - middle * behind;
            d_weights[i] = (float)(d_spread[ray] * 2.0 * (apart + w * (s_ends[i] - s_starts[i]) / 3.0));
            ahead += w, moment += w * middle;
        }
    });
}
