// Host memory behind the blocks of a device: whose bytes move, and on which threads. Knows no block.
#pragma once

#include <cstdint>
#include <memory>

#include <troupe/result.hpp>

#include "actors/lane/lane_thread.hpp"
#include "kernels/kv_copies.hpp"

namespace troupe::actors {

/// Where blocks go that leave the device. Null: nowhere.
struct host_blocks {
  std::shared_ptr<kernels::kv_copies> copies;
  std::shared_ptr<lane_thread> out, in;  ///< a thread for each way, so that neither waits for the other
  std::int32_t places() const { return copies ? copies->places : 0; }
};

/// `bytes` of host memory; 0: nothing. Nothing, too, with a warning, where `make` is empty. Errors: out_of_memory,
/// where so much cannot be pinned; invalid_argument without the prefix cache, which alone has any use for it.
result<host_blocks> make_host_blocks(const kernels::kv_copies_maker& make, kernels::kv_arena& kv, std::int64_t bytes,
                                     bool prefix_cache);

}  // namespace troupe::actors
