// The lane of one CUDA device. Shows no CUDA type, so that any room to the right may include it; in a build without
// CUDA it exists and says so.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "memory/copy_folder.hpp"

namespace troupe::kernels::cuda {

/// What `troupe doctor` shows and `--device auto` asks.
struct device_facts {
  std::string name;
  std::string driver;    ///< newest CUDA version that the driver runs, "13.0"
  std::string runtime;   ///< that this build was made with
  int architecture = 0;  ///< 90 for compute capability 9.0
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t free_bytes = 0;
  std::int64_t l2_bytes = 0;
};

/// Was this build made with CUDA?
bool built_with_cuda() noexcept;

/// The device that a lane would use. Errors: unsupported (a build without CUDA; a device that this build has no kernels
/// for), not_found (no driver or no device), internal.
result<device_facts> find_device();

/// When a step began and ended, by the device's clock (nanoseconds).
struct step_times {
  std::uint64_t began = 0;
  std::uint64_t ended = 0;
};

/// What the device reaches, measured now: the bounds beside every figure.
struct device_limits {
  double read_bytes_per_second = 0;  ///< a kernel that only reads
  double bf16_flops_per_second = 0;  ///< a large product
};

/// The ops of a model's step, and those of one that has its first and its last layer only.
struct warm_ops {
  step_ops whole;
  step_ops ends;
};

/// Dense products whose ways were timed, by shape and range of rows.
struct tuned_products {
  std::size_t shapes = 0;
  std::size_t unusual = 0;  ///< go another way than they would untimed
  std::string kept_in;      ///< the file; "": no folder was given
};

class cuda_lane : public lane {
public:
  /// What the first step of each kind would take time for besides computing, now: memory, kernels to load, the
  /// library's choices for every range of rows, graphs of decode steps; alone and beside the other queue. `space` is of
  /// no steps yet, nor is any in flight; blocks [0, blocks) of the arena that `ops` write to hold nothing.
  virtual result<void> warm_up(step_space& space, const warm_ops& ops, std::int32_t blocks) = 0;
  /// warm_up that times every way of the dense products that it comes by. The clearly faster ones are taken from then
  /// on by this lane and queues made after, and kept in the wish's folder with all that was kept there before. Not of a
  /// deterministic lane. Errors: those of warm_up; io, out_of_memory where they cannot be kept.
  virtual result<tuned_products> tune(step_space& space, const warm_ops& ops, std::int32_t blocks) = 0;
  /// What was found in the folder, or tuned since.
  virtual tuned_products tuned() const = 0;
  /// A second queue of the device, for prompts beside this lane's decodes: a lane of its own that computes with this
  /// one's matrices and arenas, driven by the same thread, and given back before this one. unsupported: where K and V
  /// are a byte a number, their one copy in bf16 serves one queue.
  virtual result<std::unique_ptr<lane>> make_second_queue() = 0;
  /// Before make_second_queue: while both queues have steps in flight the second gets so many multiprocessors for
  /// itself, and this lane all others; 0, as at the start: both share all, and this lane's kernels go first.
  /// unsupported: the device divides nothing.
  virtual result<void> divide(std::int32_t multiprocessors) = 0;
  /// Of the step that end_step ended last.
  virtual step_times last_times() const = 0;
  /// Steps begun whose decodes read together what their sequences share.
  virtual std::uint64_t steps_shared() const = 0;
  /// From now on every op of a step is timed by itself, which keeps kernels from overlapping. One step in flight then.
  virtual void profile(bool on) = 0;
  /// Microseconds by op, of the steps ended since the last call.
  virtual std::map<std::string, double> take_profile() = 0;
  /// What decode attention reads of a block: less than kv_block_bytes where blocks need room besides.
  virtual std::int64_t kv_bytes_read(const kv_shape& shape) const = 0;
  /// Takes half a second and 4 GiB.
  virtual result<device_limits> measure_limits() = 0;
  /// Fills an arena with small random numbers, for measurements at a depth that nobody computed.
  virtual result<void> fill_random(kv_arena& kv, std::uint64_t seed) = 0;
  /// Seeded random weights of type bf16, f16, fp8, q8_0, q4_0, q4_1, q5_k or q6_k (their forms here), made on the
  /// device: for measurements.
  virtual result<matrix> random_matrix(const std::string& type, std::int64_t rows, std::int64_t cols,
                                       std::uint64_t seed) = 0;
};

struct cuda_wish {
  /// What a file's layers become, "bf16", "f16" or "fp8" (e4m3, a scale a row); "": the form nearest to what they are.
  /// Embedding and head stay as they are.
  std::string weights = {};
  std::string kv = {};  ///< how K and V are kept: "bf16", or "" for that, "fp8" (e4m3) or "q8_0"
  /// A row's bits depend on its own sequence only: not on the batch, its prompt's chunks, or whether it is prompt or
  /// answer. One product kernel for any number of rows, one attention, no kernel for all layers.
  bool deterministic = false;
  /// Decodes read together what their sequences share where that saves so many bytes of K and V a layer: else two
  /// kernels take longer than one.
  std::int64_t least_shared_bytes = 64 << 20;
  memory::copy_folder copies = {};  ///< where products' ways are kept that were timed on this device; default: nowhere
};

/// A lane on the device that find_device describes. The process's first lane takes a second: the driver starts.
/// Errors: those of find_device; invalid_argument for another type of weights or KV.
result<std::unique_ptr<cuda_lane>> make_cuda_lane(const cuda_wish& wish = {});

}  // namespace troupe::kernels::cuda
