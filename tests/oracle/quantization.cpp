// SPDX-License-Identifier: Apache-2.0
// quantization LIBGGML-BASE.so: GGML's own quantisation beside Muster's. Decoding must agree bit by
// bit, on any bytes and on what GGML quantised; our quantiser's weighted squared error must be at
// most 1.01 times GGML's. Prints a line per format; exit code 1 when one differs.
#include <dlfcn.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "muster/checkpoint/gguf_types.h"
#include "muster/core/random.h"
#include "muster/quant/convert.h"
#include "muster/quant/quantize.h"

namespace {

using muster::DType;

using GgmlDecode = void (*)(const void* stored, float* values, int64_t n);
using GgmlQuantize = size_t (*)(int type, const float* values, void* stored, int64_t first,
                                int64_t rows, int64_t cols, const float* importance);

struct Format {
    DType dtype;
    const char* decode;  ///< GGML's function
};
constexpr Format kFormats[] = {
    {DType::q8_0, "dequantize_row_q8_0"},     {DType::q4_0, "dequantize_row_q4_0"},
    {DType::q4_1, "dequantize_row_q4_1"},     {DType::q5_0, "dequantize_row_q5_0"},
    {DType::q5_1, "dequantize_row_q5_1"},     {DType::q2_k, "dequantize_row_q2_K"},
    {DType::q3_k, "dequantize_row_q3_K"},     {DType::q4_k, "dequantize_row_q4_K"},
    {DType::q5_k, "dequantize_row_q5_K"},     {DType::q6_k, "dequantize_row_q6_K"},
    {DType::iq4_nl, "dequantize_row_iq4_nl"}, {DType::iq4_xs, "dequantize_row_iq4_xs"},
    {DType::mxfp4, "dequantize_row_mxfp4"}};

constexpr int64_t kRows = 256, kCols = 1024, kValues = kRows * kCols;

void* symbol(void* library, const char* name) {
    void* found = dlsym(library, name);
    if (found == nullptr) throw std::runtime_error(std::string("no function ") + name);
    return found;
}

/// The same bits; NaN may be any NaN.
bool same(const std::vector<float>& a, const std::vector<float>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
        const bool equal = std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]);
        if (!equal && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
    }
    return true;
}

std::vector<float> decoded(DType dtype, const std::vector<std::byte>& stored) {
    std::vector<float> values(kValues);
    muster::decode_row(dtype, stored.data(), values.data(), kValues);
    return values;
}

/// Rows of weights: Gaussian, or with heavy tails (Student's t with three degrees of freedom).
std::vector<float> rows(bool heavy, uint64_t seed) {
    muster::Random random(seed);
    std::vector<float> values(kValues);
    for (float& v : values) {
        double x = random.normal();
        if (heavy) {
            double chi = 0;
            for (int i = 0; i < 3; ++i) chi += std::pow(random.normal(), 2);
            x /= std::sqrt(chi / 3);
        }
        v = static_cast<float>(0.02 * x);
    }
    return values;
}

double weighted_error(const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<float>& importance) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        const double d = double{a[i]} - b[i];
        sum += (importance.empty() ? 1.0 : importance[i % kCols]) * d * d;
    }
    return sum;
}

class Comparison {
  public:
    explicit Comparison(void* library)
        : library_(library),
          quantize_(reinterpret_cast<GgmlQuantize>(symbol(library, "ggml_quantize_chunk"))) {}

    /// Prints a format's line; false when it differs.
    bool run(const Format& format) const {
        const bool bytes_agree = any_bytes_decode_alike(format);
        bool good = bytes_agree;
        std::printf(
            "%-7s any bytes: %s; error / GGML's:", muster::dtype_info(format.dtype).name.data(),
            bytes_agree ? "same bits" : "DIFFER");
        double ours = 0, theirs = 0;
        for (const bool heavy : {false, true})
            for (const bool weighted : {false, true})
                good &= compare(format, heavy, weighted, ours, theirs);
        std::printf("; million values/s: %.1f, GGML %.1f\n", 4e-6 * kValues / ours,
                    4e-6 * kValues / theirs);
        return good;
    }

  private:
    std::vector<float> ggml_decoded(const Format& format,
                                    const std::vector<std::byte>& stored) const {
        std::vector<float> values(kValues);
        reinterpret_cast<GgmlDecode>(symbol(library_, format.decode))(stored.data(), values.data(),
                                                                      kValues);
        return values;
    }

    bool any_bytes_decode_alike(const Format& format) const {
        muster::Random random(7);
        std::vector<std::byte> stored(
            static_cast<size_t>(muster::dtype_bytes(format.dtype, kValues)));
        for (std::byte& b : stored) b = static_cast<std::byte>(random());
        return same(decoded(format.dtype, stored), ggml_decoded(format, stored));
    }

    bool compare(const Format& format, bool heavy, bool weighted, double& our_seconds,
                 double& their_seconds) const {
        const std::vector<float> values = rows(heavy, 11);
        std::vector<float> importance;
        if (weighted) {
            muster::Random random(12);
            for (int64_t i = 0; i < kCols; ++i)
                importance.push_back(static_cast<float>(std::exp(random.normal())));
        }
        std::vector<std::byte> stored(
            static_cast<size_t>(muster::dtype_bytes(format.dtype, kValues)));
        const auto seconds_of = [](auto work) {
            const auto start = std::chrono::steady_clock::now();
            work();
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        };
        their_seconds += seconds_of([&] {
            const auto type = static_cast<int>(muster::gguf::type_number(format.dtype));
            quantize_(type, values.data(), stored.data(), 0, kRows, kCols,
                      weighted ? importance.data() : nullptr);
        });
        const std::vector<float> theirs = decoded(format.dtype, stored);
        const bool bits = same(theirs, ggml_decoded(format, stored));
        our_seconds += seconds_of([&] {
            muster::quantize_rows(format.dtype, values.data(), kRows, kCols, importance,
                                  stored.data());
        });
        const std::vector<float> ours = decoded(format.dtype, stored);
        const bool ours_bits = same(ours, ggml_decoded(format, stored));
        const double ratio =
            weighted_error(values, ours, importance) / weighted_error(values, theirs, importance);
        std::printf(" %.3f%s", ratio, bits && ours_bits ? "" : " (DECODED DIFFERENTLY)");
        return bits && ours_bits && ratio <= 1.01;
    }

    void* library_;
    GgmlQuantize quantize_;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: quantization LIBGGML-BASE.so\n");
        return 2;
    }
    try {
        void* library = dlopen(argv[1], RTLD_NOW);
        if (library == nullptr) throw std::runtime_error(dlerror());
        const Comparison comparison(library);
        std::printf(
            "quantisation; errors: Gaussian, with importance, heavy tails, with importance\n");
        bool good = true;
        for (const Format& format : kFormats) good &= comparison.run(format);
        return good ? 0 : 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "quantization: %s\n", e.what());
        return 1;
    }
}
