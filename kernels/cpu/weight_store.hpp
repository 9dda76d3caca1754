// How a CPU lane gets at weights: repacked into tiles once, by all threads, or read from the file for each product.
// Knows tiles and files; knows no product.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/thread_team.hpp"
#include "kernels/cpu/tile_keeper.hpp"
#include "memory/buffer.hpp"
#include "memory/copy_folder.hpp"
#include "memory/mapped_file.hpp"

namespace troupe::kernels {

/// A part's tiles [first, last) that fall into one thread's share.
struct tile_range {
  std::int64_t first;
  std::int64_t last;
};
/// Those of the part among the tiles `of_stack` of all parts.
inline tile_range tiles_within(const packed_part& part, share of_stack) noexcept {
  const std::int64_t tiles = tiles_of(part.source.rows);
  return {std::clamp<std::int64_t>(of_stack.first - part.first_tile, 0, tiles),
          std::clamp<std::int64_t>(of_stack.last - part.first_tile, 0, tiles)};
}
/// Parts of one height (gate and up) are cut alike: a thread then finds in its own cache what the next op joins of
/// them. Others are cut as one stack, which is fairer where a part is low.
inline tile_range tiles_of_thread(const thread_team& team, const cpu_matrix& w, const packed_part& part, int thread,
                                  int threads) noexcept {
  if (!w.alike) return tiles_within(part, team.share_of(w.tiles, thread, threads));
  const share mine = team.share_of(tiles_of(part.source.rows), thread, threads);
  return {mine.first, mine.last};
}

/// Used by the thread that drives the team, but for fill.
///
/// Bytes of a file are read, not touched in its map: that is faster (no page tables to fill; 15 GB/s against 10 on two
/// cores), holds no page of the source, and where the file was cut short meanwhile it is an error and no SIGBUS.
class weight_store {
public:
  /// `memory_bytes`: what repacked weights may take; 0: what the machine has left at the time. `copies`: where repacked
  /// weights of files are kept for the next start.
  weight_store(thread_team& team, bool repack, std::int64_t memory_bytes, memory::copy_folder copies)
      : team_(team), repack_(repack), memory_bytes_(memory_bytes), kept_(std::move(copies)) {}

  /// As lane::expect_weights. Maps the copy on disk if there is one. Where repacked weights would not fit, says so in
  /// the log and goes on without.
  result<void> expect(const memory::mapped_file* file, std::int64_t bytes);
  /// As lane::pack: at once from memory, from a file only when finish() is called.
  result<matrix> pack(std::span<const tensor_view> parts);
  /// As lane::finish_weights.
  result<void> finish(std::size_t& which);
  /// Until a copy that is being written is on disk, or has failed.
  void wait_for_copy() { kept_.wait(); }

  bool repacks() const noexcept { return repack_; }

  /// The part's tiles [first, last) at `panel`, made anew; any thread, `thread` being its number in the team. What can
  /// no longer be read is zero, and failed() from then on.
  void fill(const packed_part& part, std::int64_t first, std::int64_t last, std::byte* panel, int thread) noexcept;
  /// Throws troupe::failure (io) if a file could not be read: what was computed from it is worthless.
  void throw_if_lost() const;

private:
  result<void> reserve_staging(const cpu_matrix& w);
  struct piece;
  result<memory::buffer> take(const cpu_matrix& w);
  static void place(cpu_matrix& w) noexcept;
  result<void> fill_all(std::span<cpu_matrix* const> matrices, std::size_t& which);
  /// False: not to be read. `finite` is cleared where a scale is not.
  bool fill_tiles(const packed_part& part, std::int64_t first, std::int64_t last, std::byte* out, int thread,
                  bool& finite) noexcept;

  thread_team& team_;
  bool repack_;
  std::int64_t memory_bytes_;
  const memory::mapped_file* file_ = nullptr;
  std::shared_ptr<memory::buffer> slab_;  ///< what packed matrices are cut from; each of them holds it too
  std::int64_t slab_used_ = 0;
  bool keepable_ = false;             ///< all that was packed lies in the slab, and a copy is wanted
  std::vector<cpu_matrix*> pending_;  ///< of a file, laid out, not filled; their owners hold them until finish()
  tile_keeper kept_;
  std::shared_ptr<const memory::kept_copy> mapped_;  ///< that the matrices of the last load lie in
  memory::buffer staging_;  ///< a region for each thread, in which rows of a file wait to be packed
  std::int64_t staging_each_ = 0;
  std::atomic<bool> lost_{false};
};

}  // namespace troupe::kernels
