// Where the copy is, whether it fits, and the thread that writes it.
#include "kernels/cpu/tile_keeper.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <utility>
#include <vector>

#include "base/log.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr int last_in_line = 19;                 // nice
constexpr std::int64_t written_out = 256 << 20;  // takes a tenth of a second: the shortest first run leaves a copy

void say(base::log_level level, const std::string& text) { base::log(level, "lane", text); }

/// What packing makes of a fixed tile of every type: no copy survives a change of the layout, whoever makes it.
std::uint64_t layout_number() {
  constexpr std::int64_t cols = 256;
  std::uint64_t number = sizeof(tiles_record);
  for (auto type = dtype::f32; type != dtype::i32; type = static_cast<dtype>(static_cast<int>(type) + 1)) {
    const std::int64_t stride = memory::row_size(type, cols);
    std::vector<std::byte> rows(static_cast<std::size_t>(tile_rows * stride)),
        tile(static_cast<std::size_t>(tile_bytes(type, cols)));
    std::uint32_t state = 1;
    for (auto& byte : rows) byte = static_cast<std::byte>((state = state * 1664525u + 1013904223u) >> 24);
    const tensor_view source{rows.data(), type, tile_rows, cols, stride};
    number = number * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(pack_tile(source, 0, tile.data()));
    number = number * 0x9E3779B97F4A7C15u + memory::checksum_of(tile);
  }
  return number;
}

}  // namespace

tiles_record record_of(const cpu_matrix& w) noexcept {
  std::uint64_t description = static_cast<std::uint64_t>(w.cols);
  for (const packed_part& part : w.parts) {
    const std::byte* map = part.file == nullptr ? nullptr : part.file->bytes().data();
    const auto place = map == nullptr ? std::ptrdiff_t{0} : static_cast<const std::byte*>(part.source.data) - map;
    for (const std::int64_t fact :
         {static_cast<std::int64_t>(part.source.type), part.source.rows, static_cast<std::int64_t>(place)})
      description = (description ^ static_cast<std::uint64_t>(fact)) * 0x9E3779B97F4A7C15u + 1;
  }
  return {w.bytes, description, {}};
}

bool tile_keeper::begin(thread_team& team, const memory::mapped_file& file, std::int64_t bytes) {
  end();
  if (!folder_.wanted() || bytes < folder_.least_bytes) return false;
  static const std::uint64_t layout = layout_number();
  auto key = memory::key_of(file, layout);
  if (!key) return false;
  key_ = *key;
  path_ = folder_.path_of(file.path(), "tiles");
  auto found = memory::kept_copy::open(path_, *key);
  if (!found) return false;
  auto copy = std::make_shared<const memory::kept_copy>(*std::move(found));
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> whole{true};
  team.run([&](int, int) {  // whoever is free takes the next piece
    for (std::int64_t piece; whole.load(std::memory_order_relaxed) && (piece = next.fetch_add(1)) < copy->pieces();)
      if (!copy->verify(piece)) whole = false;
  });
  if (!whole) {
    say(base::log_level::warning, path_ + " is damaged: the weights are packed again");
    return false;
  }
  copy_ = std::move(copy);
  memory::copy_folder::mark_used(path_);
  say(base::log_level::debug, "packed weights are mapped from " + path_);
  return true;
}

std::optional<memory::buffer> tile_keeper::next(const cpu_matrix& w) {
  if (!copy_) return std::nullopt;
  const auto content = copy_->content();
  const std::int64_t needed = recorded_bytes(w.bytes);
  tiles_record record;
  if (needed <= static_cast<std::int64_t>(content.size()) - taken_)
    std::memcpy(&record, content.data() + taken_, sizeof record);
  if (record != record_of(w)) {
    say(base::log_level::warning, path_ + " holds other weights: they are packed again");
    ::unlink(path_.c_str());
    end();
    return std::nullopt;
  }
  auto* tiles = const_cast<std::byte*>(content.data()) + taken_ + tile_alignment;  // only ever read
  taken_ += needed;
  return memory::buffer(tiles, w.bytes, [copy = copy_](void*) {});
}

void tile_keeper::keep(std::shared_ptr<const memory::buffer> tiles, std::int64_t bytes) {
  settle();
  stop_ = false;
  writing_ = bytes;
  writer_ = std::thread([this, path = path_, key = *key_, tiles = std::move(tiles), bytes] {
    write(path, key, {static_cast<const std::byte*>(tiles->data()), static_cast<std::size_t>(bytes)});
  });
}

void tile_keeper::write(const std::string& path, const memory::copy_key& key,
                        std::span<const std::byte> content) const {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), last_in_line);
  auto done = folder_.make_room(static_cast<std::int64_t>(content.size()), path);
  if (done) done = memory::keep_copy(path, key, content, stop_);
  say(base::log_level::debug,
      done ? "packed weights are kept in " + path : "packed weights are not kept: " + done.why().text);
}

void tile_keeper::end() noexcept {
  copy_.reset();
  key_.reset();
  taken_ = 0;
}

void tile_keeper::wait() {
  if (writer_.joinable()) writer_.join();
}

void tile_keeper::settle() noexcept {
  if (writing_ > written_out) stop_ = true;
  if (writer_.joinable()) writer_.join();
}

}  // namespace troupe::kernels
