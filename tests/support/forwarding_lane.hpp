// A lane that hands every op to another: what test lanes override parts of. Steps stay the base's.
#pragma once

#include "kernels/lane.hpp"

namespace troupe::test {

class forwarding_lane : public kernels::lane {
public:
  explicit forwarding_lane(kernels::lane& inner) : inner_(&inner) {}

  result<kernels::matrix> pack(std::span<const memory::tensor_view> parts) override { return inner_->pack(parts); }
  result<memory::buffer> allocate(std::int64_t bytes) override { return inner_->allocate(bytes); }
  std::int64_t kv_block_bytes(const kernels::kv_shape& shape) const override { return inner_->kv_block_bytes(shape); }
  result<std::unique_ptr<kernels::kv_arena>> make_kv(const kernels::kv_shape& shape, std::int32_t blocks) override {
    return inner_->make_kv(shape, blocks);
  }
  void embed(const kernels::packed_matrix& table, std::span<const std::int32_t> ids, memory::tensor_view out) override {
    inner_->embed(table, ids, out);
  }
  void rms_norm(memory::tensor_view x, memory::tensor_view weight, float eps, memory::tensor_view out) override {
    inner_->rms_norm(x, weight, eps, out);
  }
  void linear(const kernels::packed_matrix& w, memory::tensor_view x, memory::tensor_view out) override {
    inner_->linear(w, x, out);
  }
  void linear_add(const kernels::packed_matrix& w, memory::tensor_view x, memory::tensor_view out) override {
    inner_->linear_add(w, x, out);
  }
  void rope_store(memory::tensor_view qkv, std::int32_t heads, const kernels::rope_shape& rope, std::int32_t layer,
                  kernels::kv_arena& kv, std::span<const kernels::sequence_rows> batch) override {
    inner_->rope_store(qkv, heads, rope, layer, kv, batch);
  }
  void attention(memory::tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer,
                 const kernels::kv_arena& kv, std::span<const kernels::sequence_rows> batch,
                 memory::tensor_view out) override {
    inner_->attention(qkv, heads, scale, layer, kv, batch, out);
  }
  void keep_rows(memory::tensor_view x, std::span<const std::int32_t> rows) override { inner_->keep_rows(x, rows); }
  void silu_mul(memory::tensor_view gate_up, memory::tensor_view out) override { inner_->silu_mul(gate_up, out); }
  void sample(memory::tensor_view logits, std::span<const kernels::sampling_row> rows,
              std::span<kernels::sampled> picks) override {
    inner_->sample(logits, rows, picks);
  }

private:
  kernels::lane* inner_;
};

}  // namespace troupe::test
