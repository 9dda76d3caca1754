// The lane of a team of CPU threads. Every op is one dispatch of the team, or none where the caller alone is faster.
#pragma once

#include <memory>

#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/product_ways.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "kernels/kv_type.hpp"
#include "kernels/lane.hpp"
#include "memory/copy_folder.hpp"

namespace troupe::kernels {

struct cpu_lane_options {
  int threads = 1;
  isa which = best_isa();
  bool repack = true;  ///< false: weights stay in the file's pages and tiles are filled for each product (slower)
  kv_type kv = kv_type::i16;  ///< of the arenas it makes
  std::int64_t weight_memory_bytes =
      0;                            ///< that repacked weights may take; 0: what the machine has left when they come
  memory::copy_folder copies = {};  ///< where repacked weights are kept on disk for the next start; default: nowhere
  /// Where it is kept what products cost on this machine (kept_costs.hpp), by which the lane chooses among `which` and
  /// the sets before it when it has its weights; default: nothing is measured, `which` computes them all.
  memory::copy_folder costs = {};
};

/// A lane that lets its barriers and its reading be counted.
class cpu_lane : public lane {
public:
  virtual const thread_team& team() const noexcept = 0;
  virtual isa which() const noexcept = 0;
  virtual const product_ways& ways() const noexcept = 0;
  /// False: not wanted, or there was no memory for it.
  virtual bool repacks() const noexcept = 0;
  /// Bytes of K and V that attention has read since the start; a piece that sequences share counts once for all of them
  /// that were taken together.
  virtual std::int64_t kv_bytes_read() const noexcept = 0;
  /// Until the copy of the weights that a thread may be writing is on disk, or has failed. Ending the lane gives it up.
  virtual void wait_for_copy() = 0;
};

/// unsupported: the machine lacks the instruction set (it is never executed); invalid_argument: threads < 1;
/// internal: a thread could not be started.
/// Ops grow the lane's scratch memory to the largest step seen and may throw std::bad_alloc; where weights are not
/// repacked, products and embed throw troupe::failure (io) once the file has been cut short.
result<std::unique_ptr<cpu_lane>> make_cpu_lane(const cpu_lane_options& options);

}  // namespace troupe::kernels
