// Threads, slots and streams of an upload. Knows no layout: pack_rows does that.
#include "kernels/cuda/weight_upload.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/log.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr std::int64_t slot_bytes = 4 << 20;
constexpr std::int64_t slots_a_reader = 2;
constexpr std::int64_t most_readers = 8;
constexpr std::int64_t bytes_a_reader = 32 << 20;  // fewer are not worth a thread and its buffers

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

result<std::unique_ptr<weight_upload::reader>> weight_upload::make_reader(std::byte* device) {
  auto made = std::make_unique<reader>();
  auto on = make_stream();
  if (!on) return on.why();
  made->on = *std::move(on);
  auto host = memory::allocate_host(slots_a_reader * slot_bytes);
  if (!host) return host.why();
  made->host = *std::move(host);
  for (std::int64_t i = 0; i < slots_a_reader; ++i) {
    auto free = make_event();
    if (!free) return free.why();
    made->slots[i] = {static_cast<std::byte*>(made->host.data()) + i * slot_bytes, device + i * slot_bytes,
                      *std::move(free)};
  }
  return result<std::unique_ptr<reader>>(std::move(made));
}

result<std::unique_ptr<weight_upload>> weight_upload::start(const memory::mapped_file& file, std::int64_t bytes) {
  std::unique_ptr<weight_upload> made(new weight_upload(file));
  made->began_ = now();
  const std::int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::int64_t readers = std::clamp<std::int64_t>(bytes / bytes_a_reader, 1, std::min(most_readers, cores));
  auto slots = allocate_device(readers * slots_a_reader * slot_bytes);
  if (!slots) return slots.why();
  made->slots_ = *std::move(slots);
  for (std::int64_t i = 0; i < readers; ++i) {
    auto one = make_reader(made->slots_.as<std::byte>() + i * slots_a_reader * slot_bytes);
    if (!one) return one.why();
    made->readers_.push_back(*std::move(one));
  }
  for (auto& one : made->readers_)
    one->thread = std::thread([upload = made.get(), self = one.get()] { upload->run(*self); });
  return result<std::unique_ptr<weight_upload>>(std::move(made));
}

weight_upload::~weight_upload() {
  {
    const std::lock_guard lock(guard_);
    pieces_.clear();
  }
  join();
}

bool weight_upload::serves(const tensor_view& part) const noexcept {
  const auto held = file_.bytes();
  const auto* first = static_cast<const std::byte*>(part.data);
  return first >= held.data() && first + part.bytes() <= held.data() + held.size();
}

result<void> weight_upload::add(const tensor_view& part, std::shared_ptr<device_matrix> to, std::int64_t first_row,
                                std::shared_ptr<device_buffer> also) {
  piece whole;
  whole.offset = static_cast<const std::byte*>(part.data) - file_.bytes().data();
  whole.bytes = part.bytes();
  whole.rows = {nullptr,
                static_cast<long>(part.stride_bytes),
                part.type,
                static_cast<int>(part.rows),
                static_cast<int>(part.cols),
                static_cast<int>(first_row)};
  whole.matrix = std::move(to);
  whole.plain = std::move(also);
  return queue(std::move(whole), part.stride_bytes);
}

result<void> weight_upload::add(const tensor_view& part, std::shared_ptr<device_buffer> to) {
  piece whole;
  whole.offset = static_cast<const std::byte*>(part.data) - file_.bytes().data();
  whole.bytes = part.bytes();
  whole.plain = std::move(to);
  return queue(std::move(whole), 1);
}

/// Cuts what is to come into whole rows that fit a slot.
result<void> weight_upload::queue(piece whole, std::int64_t row_bytes) {
  if (row_bytes > slot_bytes)
    return error{errc::unsupported, "rows of weights longer than " + std::to_string(slot_bytes) + " bytes", {}};
  const std::int64_t step = slot_bytes / row_bytes * row_bytes;
  {
    const std::lock_guard lock(guard_);
    if (failed_) return *failed_;
    for (std::int64_t at = 0; at < whole.bytes; at += step) {
      piece one = whole;
      one.offset += at;
      one.bytes = std::min(step, whole.bytes - at);
      one.plain_offset = at;
      one.rows.first_row += static_cast<int>(at / row_bytes);
      one.rows.rows = static_cast<int>(one.bytes / row_bytes);
      pieces_.push_back(std::move(one));
    }
    bytes_ += whole.bytes;
  }
  wake_.notify_all();
  return {};
}

void weight_upload::run(reader& self) {
  for (int turn = 0;; turn ^= 1) {
    piece one;
    {
      std::unique_lock lock(guard_);
      wake_.wait(lock, [&] { return ending_ || !pieces_.empty(); });
      if (pieces_.empty()) break;
      one = std::move(pieces_.front());
      pieces_.pop_front();
    }
    if (auto brought = bring(one, self, self.slots[turn]); !brought) fail(brought.why());
  }
  if (auto done = check(cudaStreamSynchronize(self.on.get()), "copying weights"); !done) fail(done.why());
}

/// Pages are pinned by those who read, once they are there and while others read: pinning them before costs as much as
/// the loading of a gigabyte.
result<void> weight_upload::bring(const piece& one, reader& self, slot& into) {
  if (auto done = check(cudaEventSynchronize(into.free.get()), "copying weights"); !done) return done;
  const cudaStream_t on = self.on.get();
  const auto bytes = static_cast<std::size_t>(one.bytes);
  if (!file_.read(one.offset, {into.host, bytes}))
    return error{
        errc::io, file_.path() + " could not be read to its end; it has been cut short, or the disk failed", {}};
  if (!self.pinned) {
    if (auto done = check(
            cudaHostRegister(self.host.data(), static_cast<std::size_t>(self.host.bytes()), cudaHostRegisterDefault),
            "pinning host memory");
        !done)
      return done;
    self.pinned = owned<void*, cudaHostUnregister>(self.host.data());
  }
  std::byte* const plain = one.plain ? one.plain->as<std::byte>() + one.plain_offset : nullptr;
  std::byte* const to = one.matrix ? into.device : plain;
  if (auto done = check(cudaMemcpyAsync(to, into.host, bytes, cudaMemcpyHostToDevice, on), "copying weights"); !done)
    return done;
  if (one.matrix) {
    file_rows rows = one.rows;
    rows.data = reinterpret_cast<const std::uint8_t*>(into.device);
    if (auto done = pack_rows(rows, *one.matrix, on); !done) return done;
    if (plain)
      if (auto done =
              check(cudaMemcpyAsync(plain, into.device, bytes, cudaMemcpyDeviceToDevice, on), "copying weights");
          !done)
        return done;
  }
  return check(cudaEventRecord(into.free.get(), on), "copying weights");
}

/// What is still queued would only take time.
void weight_upload::fail(error why) {
  const std::lock_guard lock(guard_);
  if (!failed_) failed_ = std::move(why);
  pieces_.clear();
}

void weight_upload::join() {
  {
    const std::lock_guard lock(guard_);
    ending_ = true;
  }
  wake_.notify_all();
  for (auto& one : readers_)
    if (one->thread.joinable()) one->thread.join();
}

result<void> weight_upload::finish() {
  join();
  if (failed_) return *failed_;
  const double seconds = static_cast<double>(now() - began_) * 1e-9, gigabytes = static_cast<double>(bytes_) * 1e-9;
  char text[120];
  std::snprintf(text, sizeof text, "%.2f GB of weights on the GPU in %.2f s (%.1f GB/s) by %d threads", gigabytes,
                seconds, gigabytes / seconds, static_cast<int>(readers_.size()));
  base::log(base::log_level::info, "cuda", text);
  return {};
}

}  // namespace troupe::kernels::cuda
