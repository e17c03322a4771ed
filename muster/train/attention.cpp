// SPDX-License-Identifier: Apache-2.0
#include "muster/train/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "muster/core/buffer.h"
#include "muster/kernels/gemm.h"
#include "muster/kernels/gemm_pack.h"
#include "muster/kernels/softmax.h"
#include "muster/train/tensors.h"
#include "muster/train/torch_executor.h"

namespace muster::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Queries of one block: its scores against 512 keys fill 128 KB, an eighth of the second-level
// cache.
constexpr int64_t kBlock = 64;

/// One sequence's rows of one head within a [tokens, heads * head_dim] tensor.
struct HeadRows {
    float* data = nullptr;
    int64_t stride = 0;
    float* row(int64_t t) const { return data + t * stride; }
};

/// The inner products of one (sequence, head); scratch memory of one worker.
class HeadAttention {
  public:
    explicit HeadAttention(const AttentionShape& shape)
        : shape_(shape),
          kernels_(gemm_kernels(current_isa())),
          panels_(kernels_.panels(shape.length)),
          padded_(panels_ * kernels_.nr),
          dim_elements_(kernels_.elements(shape.compute, shape.head_dim)),
          length_elements_(kernels_.elements(shape.compute, shape.length)),
          keys_(static_cast<size_t>(padded_ * dim_elements_)),
          values_(keys_.size()),
          right_(static_cast<size_t>(kernels_.panels(shape.head_dim) * kernels_.nr *
                                     length_elements_)),
          probabilities_(static_cast<size_t>(kBlock * padded_)),
          gradients_(probabilities_.size()),
          rows_(static_cast<size_t>(shape.length)) {
        if (shape.compute == Compute::f32) return;
        const int64_t longest = std::max(dim_elements_, length_elements_);
        rounded_.reserve(static_cast<size_t>(
            std::max(GemmRows::round_size(longest), kMaxTileCols * dim_elements_)));
    }

    void forward(HeadRows q, HeadRows k, HeadRows v, HeadRows y) {
        pack_transposed(k, keys_);
        pack_right(v);
        for (int64_t first = 0; first < shape_.length; first += kBlock) {
            const int64_t rows = std::min(kBlock, shape_.length - first), keys = first + rows;
            block_probabilities(q, first, rows);
            times_right(probabilities_, rows, keys, y, first);
        }
    }

    /// dq is overwritten; dk and dv are added to.
    void backward(HeadRows q, HeadRows k, HeadRows v, HeadRows dy, HeadRows dq, HeadRows dk,
                  HeadRows dv) {
        pack_transposed(k, keys_);
        pack_transposed(v, values_);
        pack_right(k);
        for (int64_t first = 0; first < shape_.length; first += kBlock) {
            const int64_t rows = std::min(kBlock, shape_.length - first), keys = first + rows;
            block_probabilities(q, first, rows);
            transposed_times(probabilities_, rows, keys, dy, first, dv);
            products(dy, first, rows, values_, keys, gradients_);
            score_gradients(first, rows);
            times_right(gradients_, rows, keys, dq, first);
            transposed_times(gradients_, rows, keys, q, first, dk);
        }
    }

  private:
    float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

    /// Panels of the transpose of one head's rows.
    void pack_transposed(HeadRows x, std::vector<float>& out) {
        const float* rows[kMaxTileCols];
        for (int64_t p = 0; p < panels_; ++p) {
            const int64_t first = p * kernels_.nr;
            const int count =
                static_cast<int>(std::min<int64_t>(kernels_.nr, shape_.length - first));
            for (int i = 0; i < count; ++i) {
                rows[i] = x.row(first + i);
                if (shape_.compute == Compute::f32) continue;
                float* rounded = rounded_.data() + i * dim_elements_;
                kernels_.round_row(rows[i], shape_.head_dim, rounded);
                rows[i] = rounded;
            }
            kernels_.transpose(rows, count, dim_elements_, out.data() + first * dim_elements_);
        }
    }

    /// right_: panels of one head's rows.
    void pack_right(HeadRows x) {
        for (int64_t t = 0; t < shape_.length; ++t) rows_[static_cast<size_t>(t)] = x.row(t);
        pack_gathered(kernels_, shape_.compute, rows_.data(), shape_.length, {0, shape_.head_dim},
                      right_.data(), kernels_.nr, length_elements_ * kernels_.nr);
    }

    /// c [rows, cols] = rows of `values` values times b.
    void multiply(const float* const* a, int64_t rows, int64_t values, Panels b, int64_t cols,
                  float* c, int64_t ldc) {
        GemmRows product;
        product.a = a;
        product.rows = rows;
        product.k = kernels_.elements(shape_.compute, values);
        if (shape_.compute == Compute::bf16) {
            product.rounded = rounded_.data();
            product.values = values;
        }
        product.b = b;
        product.cols = cols;
        product.c = c;
        product.ldc = ldc;
        gemm_rows(kernels_, shape_.compute, product);
    }

    /// out [rows, padded]: rows `first`… of x times the packed transpose, for keys [0, keys).
    void products(HeadRows x, int64_t first, int64_t rows, const std::vector<float>& packed,
                  int64_t keys, std::vector<float>& out) {
        const float* a[kBlock];
        for (int64_t i = 0; i < rows; ++i) a[i] = x.row(first + i);
        const Panels b{packed.data(), kernels_.nr, kernels_.nr * dim_elements_};
        multiply(a, rows, shape_.head_dim, b, keys, out.data(), padded_);
    }

    /// probabilities_ [rows, padded]: softmax over the keys each query may see, zero for the others
    /// of the block.
    void block_probabilities(HeadRows q, int64_t first, int64_t rows) {
        const int64_t keys = first + rows;
        products(q, first, rows, keys_, keys, probabilities_);
        const float factor = scale();
        for (int64_t i = 0; i < rows; ++i) {
            float* p = probabilities_.data() + i * padded_;
            const int64_t seen = first + i + 1;
            for (int64_t j = 0; j < seen; ++j) p[j] *= factor;
            softmax({p, static_cast<size_t>(seen)});
            std::fill(p + seen, p + keys, 0.0f);
        }
    }

    /// gradients_: dP -> dS = P (dP - sum(P dP)) * scale.
    void score_gradients(int64_t first, int64_t rows) {
        const float factor = scale();
        for (int64_t i = 0; i < rows; ++i) {
            const float* p = probabilities_.data() + i * padded_;
            float* g = gradients_.data() + i * padded_;
            const int64_t seen = first + i + 1;
            float lanes[16] = {};
            int64_t j = 0;
            for (; j + 16 <= seen; j += 16) {
                for (int64_t l = 0; l < 16; ++l) lanes[l] += p[j + l] * g[j + l];
            }
            float sum = 0;
            for (; j < seen; ++j) sum += p[j] * g[j];
            for (const float lane : lanes) sum += lane;
            for (j = 0; j < seen; ++j) g[j] = p[j] * (g[j] - sum) * factor;
            std::fill(g + seen, g + first + rows, 0.0f);
        }
    }

    /// Rows `first`… of out = m [rows, keys] * the first `keys` rows that right_ holds.
    void times_right(const std::vector<float>& m, int64_t rows, int64_t keys, HeadRows out,
                     int64_t first) {
        const float* a[kBlock];
        for (int64_t i = 0; i < rows; ++i) a[i] = m.data() + i * padded_;
        const Panels b{right_.data(), kernels_.nr, kernels_.nr * length_elements_};
        multiply(a, rows, keys, b, shape_.head_dim, out.row(first), out.stride);
    }

    /// out [keys, head_dim] += m^T [keys, rows] * rows `first`… of x.
    void transposed_times(const std::vector<float>& m, int64_t rows, int64_t keys, HeadRows x,
                          int64_t first, HeadRows out) {
        const float *a[kBlock], *b[kBlock];
        for (int64_t i = 0; i < rows; ++i) {
            a[i] = m.data() + i * padded_;
            b[i] = x.row(first + i);
        }
        GemmOuter product;
        product.a[0] = a;
        product.b = b;
        product.count = rows;
        product.m_last = keys;
        product.last = shape_.head_dim;
        product.c[0] = {out.row(0), keys, shape_.head_dim, out.stride};
        product.accumulate = true;
        outer_.reserve(kOuterScratch);
        gemm_outer(kernels_, shape_.compute, product, outer_.data());
    }

    AttentionShape shape_;
    const GemmKernels& kernels_;
    int64_t panels_, padded_;
    int64_t dim_elements_, length_elements_;
    std::vector<float> keys_, values_, right_, probabilities_, gradients_;
    std::vector<const float*> rows_;
    Buffer<float> outer_, rounded_;
};

HeadRows head_rows(const at::Tensor& x, const AttentionShape& shape, int64_t sequence,
                   int64_t head) {
    const int64_t stride = x.size(1);
    return {x.data_ptr<float>() + sequence * shape.length * stride + head * shape.head_dim, stride};
}

/// f(attention of the worker, sequence, key/value head) for all of them, on all threads.
template <typename F>
void for_heads(const AttentionShape& shape, int64_t tokens, F&& f) {
    TorchExecutor executor;
    std::vector<HeadAttention> workers;
    for (int i = 0; i < executor.workers(); ++i) workers.emplace_back(shape);
    const auto tasks = static_cast<int>(tokens / shape.length * shape.kv_heads);
    executor.run(tasks, [&](int task, int worker) {
        f(workers[static_cast<size_t>(worker)], task / shape.kv_heads, task % shape.kv_heads);
    });
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
    static Variable forward(AutogradContext* context, const Variable& q, const Variable& k,
                            const Variable& v, const AttentionShape* given) {
        const AttentionShape shape = *given;
        context->save_for_backward({q, k, v});
        context->saved_data["shape"] =
            std::vector<int64_t>{shape.length, shape.heads, shape.kv_heads, shape.head_dim,
                                 static_cast<int64_t>(shape.compute)};
        at::Tensor y = at::empty_like(q);
        const int64_t group = shape.heads / shape.kv_heads;
        for_heads(shape, q.size(0), [&](HeadAttention& attention, int64_t s, int64_t kv) {
            for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
                attention.forward(head_rows(q, shape, s, h), head_rows(k, shape, s, kv),
                                  head_rows(v, shape, s, kv), head_rows(y, shape, s, h));
            }
        });
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list grads) {
        const variable_list saved = context->get_saved_variables();
        const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
        const auto n = context->saved_data["shape"].toIntVector();
        const AttentionShape shape{n[0], n[1], n[2], n[3], static_cast<Compute>(n[4])};
        const at::Tensor dy = grads[0].contiguous();
        at::Tensor dq = at::empty_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
        const int64_t group = shape.heads / shape.kv_heads;
        for_heads(shape, q.size(0), [&](HeadAttention& attention, int64_t s, int64_t kv) {
            for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
                attention.backward(head_rows(q, shape, s, h), head_rows(k, shape, s, kv),
                                   head_rows(v, shape, s, kv), head_rows(dy, shape, s, h),
                                   head_rows(dq, shape, s, h), head_rows(dk, shape, s, kv),
                                   head_rows(dv, shape, s, kv));
            }
        });
        return {dq, dk, dv, Variable()};
    }
};

at::Tensor by_torch(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionShape& shape) {
    const auto by_head = [&](const at::Tensor& t, int64_t heads) {
        const at::Tensor y = t.view({-1, shape.length, heads, shape.head_dim}).transpose(1, 2);
        return heads == shape.heads ? y : y.repeat_interleave(shape.heads / heads, 1);
    };
    const at::Tensor mask = at::full({shape.length, shape.length},
                                     -std::numeric_limits<double>::infinity(), q.options())
                                .triu(1);
    const at::Tensor scores =
        at::matmul(by_head(q, shape.heads), by_head(k, shape.kv_heads).transpose(2, 3)) /
        std::sqrt(static_cast<double>(shape.head_dim));
    const at::Tensor y = at::matmul(at::softmax(scores + mask, -1), by_head(v, shape.kv_heads));
    return y.transpose(1, 2).reshape(q.sizes());
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionShape& shape) {
    if (!is_kernel_tensor(q)) return by_torch(q, k, v, shape);
    return AttentionFunction::apply(q.contiguous(), k.contiguous(), v.contiguous(), &shape);
}

}  // namespace muster::train
