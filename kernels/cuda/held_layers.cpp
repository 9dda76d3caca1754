// Recognises layers: five ops, each reading what the one before it wrote.
#include "kernels/cuda/held_layers.hpp"

namespace troupe::kernels::cuda {

bool held_layers::take(const product& op) {
  if (!possible_) return false;
  const bool normed = op.x == nullptr;
  bool fits = false;
  switch (next()) {
    case 0: fits = normed && op.output == product_output::bf16; break;
    case 2: fits = !normed && op.output == product_output::add_f32 && op.x == ops_.back().attended.out; break;
    case 3: fits = normed && op.output == product_output::silu_bf16 && op.hidden == ops_.back().multiplied.out; break;
    case 4: fits = !normed && op.output == product_output::add_f32 && op.x == ops_.back().multiplied.out; break;
    default: break;
  }
  if (!fits) return possible_ = false;
  ops_.push_back({true, op, {}});
  return true;
}

bool held_layers::take(const attention_call& op) {
  if (!possible_) return false;
  if (next() != 1 || op.qkv != ops_.back().multiplied.out || !op.rope.angles) return possible_ = false;
  ops_.push_back({false, {}, op});
  return true;
}

bool held_layers::make_call() {
  if (ops_.empty() || next() != 0) return false;
  layers_.clear();
  const product& first = ops_[0].multiplied;
  for (std::size_t at = 0; at < ops_.size(); at += ops_a_layer) {
    const product &qkv = ops_[at].multiplied, &out = ops_[at + 2].multiplied, &gate = ops_[at + 3].multiplied,
                  &down = ops_[at + 4].multiplied;
    const auto layer = static_cast<std::int32_t>(at / ops_a_layer);
    if (qkv.hidden != first.hidden || gate.hidden != first.hidden || out.out != first.hidden ||
        down.out != first.hidden || qkv.eps != first.eps || gate.eps != first.eps ||
        ops_[at + 1].attended.layer != ops_[1].attended.layer + layer)
      return false;
    layers_.push_back({qkv.w, out.w, gate.w, down.w, qkv.gain, gate.gain});
  }
  call_ = {};
  call_.layers = layers_;
  call_.eps = first.eps;
  call_.hidden = const_cast<float*>(first.hidden);
  call_.hidden_stride = first.x_stride;
  call_.attention = ops_[1].attended;
  return true;
}

std::optional<std::int64_t> held_layers::resident_bytes_needed() {
  if (!make_call() || !resident_serves(call_)) return {};
  const attention_call& attention = call_.attention;
  return resident_bytes(layers_[0], attention.tables->rows, attention.heads, attention.kv.head_dim);
}

void held_layers::run(const device_buffer& workspace, cudaStream_t on) {
  call_.workspace = workspace.as<std::byte>();
  call_.workspace_bytes = workspace.bytes();
  run_resident(call_, on);
  ops_.clear();
}

}  // namespace troupe::kernels::cuda
