// All layers of a decode step of few rows as one kernel whose blocks stay on their multiprocessors: weights of the ops
// ahead stream in while an op waits for the one before. Knows no model: layers are four products around attention.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/weights.hpp"

namespace troupe::kernels::cuda {

/// x += output(attend(rope(norm(x) . qkv))); x += down(silu(gate) * up) with gate|up = norm(x) . gate_up
struct resident_layer {
  const device_matrix* qkv = nullptr;
  const device_matrix* output = nullptr;
  const device_matrix* gate_up = nullptr;
  const device_matrix* down = nullptr;
  const float* attention_gain = nullptr;
  const float* mlp_gain = nullptr;
};

struct resident_call {
  std::span<const resident_layer> layers;
  float eps = 0.0f;
  float* hidden = nullptr;  ///< f32 [T, width]: x before and after
  std::int64_t hidden_stride = 0;
  attention_call attention;          ///< of the first layer, with rope; qkv, out and workspace unused
  std::byte* workspace = nullptr;    ///< resident_bytes or more; zeros before the first call
  std::int64_t workspace_bytes = 0;  ///< all of it, whatever this call needs
};

constexpr std::int32_t most_resident_layers = 80;
constexpr std::int32_t most_resident_rows = 4;
constexpr std::int32_t most_resident_tokens = 2048;  ///< of a sequence
/// Steps after which the tags of words begin anew, and the last of them clears the workspace. The workspace's first
/// four bytes count the steps done since.
constexpr std::uint32_t resident_turns = 0xffffffffu / most_resident_layers;

/// For up to `rows` rows.
std::int64_t resident_bytes(const resident_layer& like, std::int32_t rows, std::int32_t heads, std::int32_t head_dim);

/// Whether this device and these matrices have such a kernel: Hopper or later, one weight type in all layers, sizes
/// whose activations fit beside the weights in flight. Contexts up to call.attention.tables->longest.
bool resident_serves(const resident_call& call);

/// One launch; its blocks wait for each other, so that it is launched only where all of them fit at once.
/// A row's bits depend on its own sequence alone.
void run_resident(const resident_call& call, cudaStream_t on);

}  // namespace troupe::kernels::cuda
