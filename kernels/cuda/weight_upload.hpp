// Brings a file's weights to the device while others are still being read: threads fill buffers from the file, and one
// thread more pins them, has them copied and, on a second stream, rearranged. Only that one calls the driver: threads
// that did so side by side waited for its locks as long as for the file. Knows matrices and bytes; no model.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "kernels/cuda/pack_rows.hpp"
#include "kernels/cuda/polled_queue.hpp"
#include "memory/buffer.hpp"
#include "memory/mapped_file.hpp"

namespace troupe::kernels::cuda {

/// From its making to finish() the file must live. What rows go to is kept alive here until they are there. One thread
/// calls it.
class weight_upload {
public:
  /// `bytes`: how many are to come. Errors: no memory, no stream.
  static result<std::unique_ptr<weight_upload>> start(const memory::mapped_file& file, std::int64_t bytes);
  /// Ends without waiting for what is queued, but for what is under way.
  ~weight_upload();

  /// Does the file hold these bytes?
  bool serves(const tensor_view& part) const noexcept;
  /// Queues parts, one below the other, for a matrix that has no memory yet (shape_matrix): here it gets it, with
  /// others from one allocation, when enough have come or at finish(). Queues the bytes of the one part as they are for
  /// `also`, if that is there. Errors: no memory; the first failure of what was queued before.
  result<void> add(std::span<const tensor_view> parts, std::shared_ptr<device_matrix> to,
                   std::shared_ptr<device_buffer> also = {});
  /// Queues the bytes as they are.
  result<void> add(const tensor_view& part, std::shared_ptr<device_buffer> to);
  /// Waits until everything is on the device, and says in the log how fast it came. Errors: the first failure; io where
  /// the file has been cut short.
  result<void> finish();

private:
  struct piece {
    std::int64_t offset = 0, bytes = 0;
    file_rows rows{};
    std::shared_ptr<device_matrix> matrix;
    std::shared_ptr<device_buffer> plain;  // beside a matrix, or in place of one
    std::int64_t plain_offset = 0;
  };
  struct unplaced {
    std::shared_ptr<device_matrix> matrix;
    std::vector<piece> parts;
  };
  struct slot {
    std::byte* host = nullptr;
    std::byte* device = nullptr;
    owned<void*, cudaHostUnregister> pinned;  // the host's bytes, once a read has brought their pages
    event arrived;                            // what was sent from here last is where it goes
    piece what;
  };

  explicit weight_upload(const memory::mapped_file& file) : file_(file) {}
  result<void> make_slots(std::int64_t count);
  piece piece_of(const tensor_view& part) const;
  result<void> place();
  result<void> queue(piece whole, std::int64_t row_bytes);
  void read();
  void send();
  result<void> send(slot& one);
  bool has_arrived(const slot& one);
  void fail(error why);
  void join();

  const memory::mapped_file& file_;
  stream copies_, packs_;
  memory::buffer host_;   // of all slots
  device_buffer device_;  // likewise
  std::vector<std::unique_ptr<slot>> slots_;
  std::vector<unplaced> waiting_;       // for memory
  std::int64_t waiting_bytes_ = 0;      // how much of it
  polled_queue<piece> pieces_;          // to be read
  polled_queue<slot*> empty_, filled_;  // from the sender to the readers, and back
  std::vector<std::thread> readers_;
  std::thread sender_;
  std::mutex guard_;
  std::optional<error> failed_;  // guard_
  std::int64_t bytes_ = 0;
  std::int64_t began_ = 0;  // nanoseconds, steady clock
};

}  // namespace troupe::kernels::cuda
