// The packed tiles of one model as a copy on disk: found and verified at the next start, written after the first one.
// Knows matrices as records and bytes; knows no packing.
//
// A copy holds the matrices in the order in which they were packed, each behind a record that says what it is.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "memory/copy_folder.hpp"
#include "memory/kept_copy.hpp"

namespace troupe::kernels {

constexpr std::int64_t tile_alignment = 64;

/// In front of a matrix's tiles.
struct tiles_record {
  std::int64_t bytes = 0;         ///< of the tiles
  std::uint64_t description = 0;  ///< types, shapes and places in the file of the matrix's parts
  std::uint64_t unused[6] = {};

  bool operator==(const tiles_record&) const = default;
};
static_assert(sizeof(tiles_record) == tile_alignment);

tiles_record record_of(const cpu_matrix& w) noexcept;
/// From a record to the next one.
constexpr std::int64_t recorded_bytes(std::int64_t tiles) noexcept {
  return tile_alignment + (tiles + tile_alignment - 1) / tile_alignment * tile_alignment;
}

/// Used by the thread that loads.
class tile_keeper {
public:
  explicit tile_keeper(memory::copy_folder folder) : folder_(std::move(folder)) {}
  tile_keeper(const tile_keeper&) = delete;
  tile_keeper& operator=(const tile_keeper&) = delete;
  /// What is being written is given up, unless it is soon done.
  ~tile_keeper() { settle(); }

  /// A load of `file` begins; `bytes` is about what its tiles will take. True: there is a copy, and all of it has been
  /// verified by the team.
  bool begin(thread_team& team, const memory::mapped_file& file, std::int64_t bytes);
  /// The tiles of the matrix that comes next, for as long as the buffer lives. Nothing: there are none, and from now on
  /// there will be none (a copy that tells of other matrices is deleted).
  std::optional<memory::buffer> next(const cpu_matrix& w);
  /// What next() gave tiles of; null: nothing.
  std::shared_ptr<const memory::kept_copy> copy() const noexcept { return copy_; }
  /// Whether what is packed now should be kept.
  bool wanted() const noexcept { return key_.has_value() && !copy_; }
  /// Writes the first `bytes` of `tiles` in a thread of its own, which comes after all others for the processor.
  void keep(std::shared_ptr<const memory::buffer> tiles, std::int64_t bytes);
  /// The load is over. Buffers that next() gave, and what is being written, go on.
  void end() noexcept;
  /// Until what is being written is there, or has failed.
  void wait();

private:
  void settle() noexcept;
  void write(const std::string& path, const memory::copy_key& key, std::span<const std::byte> content) const;

  memory::copy_folder folder_;
  std::string path_;
  std::optional<memory::copy_key> key_;
  std::shared_ptr<const memory::kept_copy> copy_;
  std::int64_t taken_ = 0;  ///< of the copy's content
  std::atomic<bool> stop_{false};
  std::int64_t writing_ = 0;  ///< bytes
  std::thread writer_;
};

}  // namespace troupe::kernels
