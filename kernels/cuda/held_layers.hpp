// The ops of a decode step's layers, held back as they are called until it shows whether the resident kernel can do
// them all; else they are launched one by one, as they came. Knows the order of a layer's ops; no weights, no sequence.
#pragma once

#include <optional>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/resident_layers.hpp"

namespace troupe::kernels::cuda {

class held_layers {
public:
  /// Of the ops that follow; `possible`: a step that the resident kernel may do at all.
  void start(bool possible) {
    possible_ = possible;
    ops_.clear();
  }
  /// True: the op is held. False: it is not the next op of a layer; release what is held, then launch it.
  bool take(const product& op);
  bool take(const attention_call& op);

  bool empty() const noexcept { return ops_.empty(); }
  /// Bytes that `run` needs where these are layers for the resident kernel; nothing where they are not.
  std::optional<std::int64_t> resident_bytes_needed();
  /// Launches the resident kernel for what is held. After resident_bytes_needed() said that it can.
  void run(const device_buffer& workspace, cudaStream_t on);
  /// Calls `launch` with each op in order, and holds nothing then.
  template <class Launch>
  void release(Launch launch) {
    for (const held& op : ops_) op.is_product ? launch(op.multiplied) : launch(op.attended);
    ops_.clear();
  }

private:
  struct held {
    bool is_product = true;
    product multiplied;
    attention_call attended;
  };
  static constexpr std::size_t ops_a_layer = 5;

  std::size_t next() const noexcept { return ops_.size() % ops_a_layer; }
  bool make_call();

  bool possible_ = false;
  std::vector<held> ops_;
  std::vector<resident_layer> layers_;
  resident_call call_;
};

}  // namespace troupe::kernels::cuda
