// Threads and slots of an upload. Knows no layout: pack_rows does that.
#include "kernels/cuda/weight_upload.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <string>
#include <utility>

#include "base/log.hpp"

namespace troupe::kernels::cuda {
namespace {

constexpr std::int64_t slot_bytes = 2 << 20;
constexpr std::int64_t most_readers = 12;
constexpr std::int64_t slots_sent = 6;             // beside one for each reader: on their way
constexpr std::int64_t bytes_at_once = 256 << 20;  // of device memory: an allocation costs the same, however large
constexpr std::int64_t bytes_a_reader = 32 << 20;  // fewer are not worth a thread and its buffers

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

result<void> weight_upload::make_slots(std::int64_t count) {
  auto host = memory::allocate_host(count * slot_bytes);
  if (!host) return host.why();
  host_ = *std::move(host);
  auto device = allocate_device(count * slot_bytes);
  if (!device) return device.why();
  device_ = *std::move(device);
  for (std::int64_t i = 0; i < count; ++i) {
    auto arrived = make_event();
    if (!arrived) return arrived.why();
    auto one = std::make_unique<slot>();
    one->host = static_cast<std::byte*>(host_.data()) + i * slot_bytes;
    one->device = device_.as<std::byte>() + i * slot_bytes;
    one->arrived = *std::move(arrived);
    empty_.push(one.get());
    slots_.push_back(std::move(one));
  }
  return {};
}

result<std::unique_ptr<weight_upload>> weight_upload::start(const memory::mapped_file& file, std::int64_t bytes) {
  std::unique_ptr<weight_upload> made(new weight_upload(file));
  made->began_ = now();
  const std::int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  const std::int64_t readers = std::clamp<std::int64_t>(bytes / bytes_a_reader, 1, std::min(most_readers, cores));
  for (stream* one : {&made->copies_, &made->packs_}) {
    auto on = make_stream();
    if (!on) return on.why();
    *one = *std::move(on);
  }
  if (auto done = made->make_slots(readers + slots_sent); !done) return done.why();
  for (std::int64_t i = 0; i < readers; ++i) made->readers_.emplace_back([upload = made.get()] { upload->read(); });
  made->sender_ = std::thread([upload = made.get()] { upload->send(); });
  return result<std::unique_ptr<weight_upload>>(std::move(made));
}

weight_upload::~weight_upload() {
  pieces_.clear();
  join();
}

bool weight_upload::serves(const tensor_view& part) const noexcept {
  const auto held = file_.bytes();
  const auto* first = static_cast<const std::byte*>(part.data);
  return first >= held.data() && first + part.bytes() <= held.data() + held.size();
}

weight_upload::piece weight_upload::piece_of(const tensor_view& part) const {
  piece whole;
  whole.offset = static_cast<const std::byte*>(part.data) - file_.bytes().data();
  whole.bytes = part.bytes();
  return whole;
}

result<void> weight_upload::add(std::span<const tensor_view> parts, std::shared_ptr<device_matrix> to,
                                std::shared_ptr<device_buffer> also) {
  unplaced one{std::move(to), {}};
  int first_row = 0;
  for (const tensor_view& part : parts) {
    piece whole = piece_of(part);
    whole.rows = {nullptr,
                  static_cast<long>(part.stride_bytes),
                  part.type,
                  static_cast<int>(part.rows),
                  static_cast<int>(part.cols),
                  first_row};
    whole.matrix = one.matrix;
    whole.plain = also;
    first_row += whole.rows.rows;
    one.parts.push_back(std::move(whole));
  }
  waiting_bytes_ += room_of(*one.matrix);
  waiting_.push_back(std::move(one));
  return waiting_bytes_ < bytes_at_once ? result<void>{} : place();
}

result<void> weight_upload::add(const tensor_view& part, std::shared_ptr<device_buffer> to) {
  piece whole = piece_of(part);
  whole.plain = std::move(to);
  return queue(std::move(whole), 1);
}

/// One allocation for all that wait for memory.
result<void> weight_upload::place() {
  const auto placed = std::exchange(waiting_, {});
  const auto room = allocate_device(std::exchange(waiting_bytes_, 0));
  if (!room) return room.why();
  std::int64_t at = 0;
  for (const unplaced& one : placed) {
    device_matrix& m = *one.matrix;
    place_matrix(m, *room, at);
    at += room_of(m);
    // On the stream of what is rearranged into it later.
    if (m.n_padded != m.rows || m.k_padded != m.cols)
      if (auto done = clear_matrix(m, packs_.get()); !done) return done;
    for (const piece& part : one.parts)
      if (auto queued = queue(part, part.rows.stride); !queued) return queued;
  }
  return {};
}

/// Cuts what is to come into whole rows that fit a slot.
result<void> weight_upload::queue(piece whole, std::int64_t row_bytes) {
  if (row_bytes > slot_bytes)
    return error{errc::unsupported, "rows of weights longer than " + std::to_string(slot_bytes) + " bytes", {}};
  const std::int64_t step = slot_bytes / row_bytes * row_bytes;
  {
    const std::lock_guard lock(guard_);
    if (failed_) return *failed_;
  }
  for (std::int64_t at = 0; at < whole.bytes; at += step) {
    piece one = whole;
    one.offset += at;
    one.bytes = std::min(step, whole.bytes - at);
    one.plain_offset = at;
    one.rows.first_row += static_cast<int>(at / row_bytes);
    one.rows.rows = static_cast<int>(one.bytes / row_bytes);
    pieces_.push(std::move(one));
  }
  bytes_ += whole.bytes;
  return {};
}

void weight_upload::read() {
  while (auto one = pieces_.take()) {
    slot& into = **empty_.take();  // never closed
    into.what = *std::move(one);
    if (file_.read(into.what.offset, {into.host, static_cast<std::size_t>(into.what.bytes)})) {
      filled_.push(&into);
      continue;
    }
    fail({errc::io, file_.path() + " could not be read to its end; it has been cut short, or the disk failed", {}});
    empty_.push_first(&into);
  }
}

/// Sends what was read, and gives slots back when their bytes are where they go.
void weight_upload::send() {
  std::deque<slot*> sent;
  for (;;) {
    const auto next = sent.empty() ? filled_.take() : filled_.take_if_any();
    if (next) {
      if (auto done = send(**next); !done) fail(done.why());
      sent.push_back(*next);
    } else if (sent.empty()) {
      break;
    }
    bool any = false;
    while (!sent.empty() && has_arrived(*sent.front())) {
      sent.front()->what = {};
      empty_.push_first(sent.front());
      sent.pop_front();
      any = true;
    }
    if (!next && !any) std::this_thread::yield();
  }
  for (const stream* one : {&copies_, &packs_})
    if (auto done = check(cudaStreamSynchronize(one->get()), "copying weights"); !done) fail(done.why());
}

bool weight_upload::has_arrived(const slot& one) {
  const cudaError_t status = cudaEventQuery(one.arrived.get());
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // not the next launch's fault
    return false;
  }
  if (auto done = check(status, "copying weights"); !done) fail(done.why());
  return true;
}

/// Pages are pinned one slot at a time, once they are there and while others are read: pinning all before costs as much
/// as the loading of a gigabyte.
result<void> weight_upload::send(slot& one) {
  if (!one.pinned) {
    if (auto done = check(cudaHostRegister(one.host, static_cast<std::size_t>(slot_bytes), cudaHostRegisterDefault),
                          "pinning host memory");
        !done)
      return done;
    one.pinned = owned<void*, cudaHostUnregister>(one.host);
  }
  const piece& what = one.what;
  const auto bytes = static_cast<std::size_t>(what.bytes);
  std::byte* const to = what.plain ? what.plain->as<std::byte>() + what.plain_offset : one.device;
  if (auto done = check(cudaMemcpyAsync(to, one.host, bytes, cudaMemcpyHostToDevice, copies_.get()), "copying weights");
      !done)
    return done;
  if (auto done = check(cudaEventRecord(one.arrived.get(), copies_.get()), "copying weights"); !done || !what.matrix)
    return done;
  if (auto done = check(cudaStreamWaitEvent(packs_.get(), one.arrived.get(), 0), "copying weights"); !done) return done;
  file_rows rows = what.rows;
  rows.data = reinterpret_cast<const std::uint8_t*>(to);
  if (auto done = pack_rows(rows, *what.matrix, packs_.get()); !done) return done;
  return check(cudaEventRecord(one.arrived.get(), packs_.get()), "copying weights");
}

/// What is still queued would only take time.
void weight_upload::fail(error why) {
  {
    const std::lock_guard lock(guard_);
    if (!failed_) failed_ = std::move(why);
  }
  pieces_.clear();
}

void weight_upload::join() {
  pieces_.close();
  for (std::thread& one : readers_)
    if (one.joinable()) one.join();
  filled_.close();
  if (sender_.joinable()) sender_.join();
}

result<void> weight_upload::finish() {
  if (auto placed = place(); !placed) fail(placed.why());
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
