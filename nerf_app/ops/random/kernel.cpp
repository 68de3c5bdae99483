// Philox4x32-10, sixteen counters at a time where the registers are wide.
#include "../native/native.hpp"

namespace {

constexpr uint64_t MULTIPLIER_A = 0xD2511F53u, MULTIPLIER_B = 0xCD9E8D57u;

inline void scramble(uint32_t word[4], uint32_t key_0, uint32_t key_1) {
    for (int turn = 0; turn < 10; ++turn) {
        const uint64_t first = MULTIPLIER_A * word[0], second = MULTIPLIER_B * word[2];
        word[0] = (uint32_t)(second >> 32) ^ word[1] ^ key_0;
        word[2] = (uint32_t)(first >> 32) ^ word[3] ^ key_1;
        word[1] = (uint32_t)second, word[3] = (uint32_t)first;
        key_0 += 0x9E3779B9u, key_1 += 0xBB67AE85u;
    }
}

}  // namespace

// Either output may be null.
KERNEL(philox)(uint32_t seed, uint32_t purpose, uint32_t step, const int64_t* indices, int64_t n, int64_t* words, float* uniform) {
    const int64_t chunks = tasks_for(n, 2048);
    parallel(chunks, [&](int64_t task) {
        for (int64_t i = part(n, task, chunks); i < part(n, task + 1, chunks); ++i) {
            uint32_t word[4] = {(uint32_t)indices[i], step, (uint32_t)(indices[i] >> 32), 0};
            scramble(word, seed, purpose);
            for (int w = 0; w < 4; ++w) {
                if (words) words[4 * i + w] = word[w];
                if (uniform) uniform[4 * i + w] = (float)(word[w] >> 8) * 0x1p-24f;
            }
        }
    });
}
