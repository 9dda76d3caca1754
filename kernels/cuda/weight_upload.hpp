// Brings a file's weights to the device while others are still being read: threads fill pinned buffers from the file,
// and each has a stream on which what it read is copied and rearranged meanwhile. Knows matrices and bytes; no model.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "kernels/cuda/pack_rows.hpp"
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
  /// Queues rows for a matrix, which its padding already is in, and the bytes as they are for `also`, if that is there.
  /// Errors: the first failure of what was queued before.
  result<void> add(const tensor_view& part, std::shared_ptr<device_matrix> to, std::int64_t first_row,
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
  struct slot {
    std::byte* host = nullptr;
    std::byte* device = nullptr;
    event free;
  };
  struct reader {
    stream on;
    memory::buffer host;                      // of both slots
    owned<void*, cudaHostUnregister> pinned;  // the same, once the first read has brought its pages
    slot slots[2];
    std::thread thread;
  };

  explicit weight_upload(const memory::mapped_file& file) : file_(file) {}
  static result<std::unique_ptr<reader>> make_reader(std::byte* device);
  result<void> queue(piece whole, std::int64_t row_bytes);
  void run(reader& self);
  result<void> bring(const piece& one, reader& self, slot& into);
  void fail(error why);
  void join();

  const memory::mapped_file& file_;
  device_buffer slots_;  // of all readers
  std::vector<std::unique_ptr<reader>> readers_;
  std::mutex guard_;
  std::condition_variable wake_;
  std::deque<piece> pieces_;     // guard_
  bool ending_ = false;          // guard_
  std::optional<error> failed_;  // guard_
  std::int64_t bytes_ = 0;
  std::int64_t began_ = 0;  // nanoseconds, steady clock
};

}  // namespace troupe::kernels::cuda
