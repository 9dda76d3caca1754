// Reads rows, packs tiles, cuts memory from one slab.
#include "kernels/cpu/weight_store.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/log.hpp"
#include "base/machine.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::int64_t staged_bytes = 256 << 10;  // of the file at a time: with its tiles they stay in a core's L2
constexpr std::int64_t spare_bytes = 64 << 20;    // beside the weights, for all that is small

std::int64_t staged_tiles(const tensor_view& part) noexcept {
  return std::max<std::int64_t>(1, staged_bytes / (tile_rows * part.stride_bytes));
}

/// Packed bytes, from those of the file: scales unpacked from 6 bits and last tiles that are part padding.
std::int64_t with_tiles(std::int64_t bytes) noexcept { return bytes + bytes / 16 + (1 << 20); }

std::string gib(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

result<std::unique_ptr<cpu_matrix>> lay_out(std::span<const tensor_view> parts, const memory::mapped_file* file) {
  if (parts.empty()) return error{errc::invalid_argument, "a matrix needs at least one part", {}};
  auto w = std::make_unique<cpu_matrix>();
  w->cols = parts.front().cols;
  for (const tensor_view& part : parts) {
    if (part.cols != w->cols || part.rows <= 0 || part.cols <= 0)
      return error{errc::invalid_argument, "stacked parts must be non-empty and of equal width", {}};
    if (part.type == dtype::i32) return error{errc::unsupported, "integer tensors are no weights", {}};
    if (part.cols % memory::info(part.type).block != 0)
      return error{errc::unsupported,
                   "rows of " + std::to_string(part.cols) + " are not whole blocks of " +
                       std::string(memory::info(part.type).name),
                   {}};
    w->parts.push_back({part, file, nullptr, w->rows, w->tiles});
    w->rows += part.rows;
    w->tiles += tiles_of(part.rows);
    w->bytes += tiles_of(part.rows) * tile_bytes(part.type, part.cols);
    w->any_quantised = w->any_quantised || is_quantised(part.type);
    w->any_bf16 = w->any_bf16 || part.type == dtype::bf16;
    w->any_float = w->any_float || part.type == dtype::f16 || part.type == dtype::f32;
  }
  w->alike = parts.size() > 1 && std::all_of(parts.begin(), parts.end(),
                                             [&](const tensor_view& part) { return part.rows == parts.front().rows; });
  return w;
}

error cut_short() { return {errc::io, "the model's file has been cut short or cannot be read any more", {}}; }

}  // namespace

result<void> weight_store::expect(const memory::mapped_file* file, std::int64_t bytes) {
  file_ = file;
  slab_.reset();
  pending_.clear();
  kept_.end();
  if (file == nullptr || bytes == 0) return {};
  const std::int64_t needed = with_tiles(bytes);
  if (repack_ && kept_.begin(team_, *file, needed)) return {};
  file->prefetch(0, file->size());
  if (!repack_) return {};
  const std::int64_t free =
      memory_bytes_ > 0 ? memory_bytes_ : static_cast<std::int64_t>(base::read_memory_limits().available);
  auto slab = needed + spare_bytes <= free ? memory::allocate_host(needed)
                                           : result<memory::buffer>(error{errc::out_of_memory, "", {}});
  if (!slab) {
    base::log(base::log_level::warning, "lane",
              "not enough memory to repack the weights (" + gib(needed + spare_bytes) + " needed, " + gib(free) +
                  " free): computing from the file's pages, several times slower");
    repack_ = false;
    return {};
  }
  slab_ = std::make_shared<memory::buffer>(*std::move(slab));
  slab_used_ = 0;
  keepable_ = kept_.wanted();
  return {};
}

/// From the slab while it lasts: small matrices too then lie in huge pages. Behind a record, as a copy on disk has it.
result<memory::buffer> weight_store::take(const cpu_matrix& w) {
  const std::int64_t needed = recorded_bytes(w.bytes);
  if (!slab_ || needed > slab_->bytes() - slab_used_) {
    keepable_ = false;
    return memory::allocate_host(w.bytes);
  }
  auto* at = static_cast<std::byte*>(slab_->data()) + slab_used_;
  slab_used_ += needed;
  const tiles_record record = record_of(w);
  std::memcpy(at, &record, sizeof record);
  return memory::buffer(at + tile_alignment, w.bytes, [slab = slab_](void*) {});
}

result<void> weight_store::reserve_staging(const cpu_matrix& w) {
  std::int64_t each = 0;
  for (const packed_part& part : w.parts)
    if (part.file != nullptr) {
      const std::int64_t rows = std::min(part.source.rows, staged_tiles(part.source) * tile_rows);
      each = std::max(each, rows * part.source.stride_bytes);
    }
  if (each <= staging_each_) return {};
  auto region = memory::allocate_host(each * team_.size(), memory::page_size::small);
  if (!region) return region.why();
  staging_ = *std::move(region);
  staging_each_ = each;
  return {};
}

result<matrix> weight_store::pack(std::span<const tensor_view> parts) {
  auto laid = lay_out(parts, file_);
  if (!laid) return laid.why();
  auto& w = *laid;
  if (repack_ && file_ != nullptr) {
    if (auto kept = kept_.next(*w)) {
      w->storage = *std::move(kept);
      mapped_ = kept_.copy();
      place(*w);
      return matrix{std::move(w)};
    }
  }
  if (auto reserved = reserve_staging(*w); !reserved) return reserved.why();
  if (!repack_) return matrix{std::move(w)};
  auto storage = take(*w);
  if (!storage) return storage.why();
  w->storage = *std::move(storage);
  place(*w);
  if (file_ != nullptr) {
    pending_.push_back(w.get());
    return matrix{std::move(w)};
  }
  cpu_matrix* const alone[] = {w.get()};
  std::size_t which = 0;
  if (auto filled = fill_all(alone, which); !filled) return filled.why();
  return matrix{std::move(w)};
}

result<void> weight_store::finish(std::size_t& which) {
  const std::vector<cpu_matrix*> pending = std::move(pending_);
  pending_.clear();
  if (auto filled = fill_all(pending, which); !filled) return filled;
  if (slab_ && keepable_) kept_.keep(slab_, slab_used_);
  return {};
}

/// Tells each part where its tiles are, or will be.
void weight_store::place(cpu_matrix& w) noexcept {
  const auto* at = static_cast<const std::byte*>(w.storage.data());
  for (packed_part& part : w.parts) {
    part.tiles = at;
    at += tiles_of(part.source.rows) * tile_bytes(part.source.type, w.cols);
  }
}

/// What one thread reads and packs at a time.
struct weight_store::piece {
  const packed_part* part;
  std::int64_t first, last;  ///< tiles
  std::size_t matrix;
};

/// Each thread first the tiles that it will multiply with, so that it is the first to touch their pages; then what
/// others have not begun: a thread that has lost its core keeps nobody waiting.
result<void> weight_store::fill_all(std::span<cpu_matrix* const> matrices, std::size_t& which) {
  std::vector<piece> pieces;
  std::vector<std::size_t> first_of{0};  // pieces of each thread's
  const int threads = team_.size();
  for (int thread = 0; thread < threads; ++thread) {
    for (std::size_t m = 0; m < matrices.size(); ++m) {
      for (const packed_part& part : matrices[m]->parts) {
        const tile_range tiles = tiles_of_thread(team_, *matrices[m], part, thread, threads);
        const std::int64_t step = staged_tiles(part.source);
        for (std::int64_t tile = tiles.first; tile < tiles.last; tile += step)
          pieces.push_back({&part, tile, std::min(tile + step, tiles.last), m});
      }
    }
    first_of.push_back(pieces.size());
  }
  std::vector<std::atomic<bool>> begun(pieces.size());
  std::atomic<std::size_t> culprit{matrices.size()};
  team_.run([&](int thread, int) {
    const auto fill_piece = [&](std::size_t i) {
      if (begun[i].load(std::memory_order_relaxed) || begun[i].exchange(true, std::memory_order_relaxed)) return;
      const auto& [part, first, last, m] = pieces[i];
      bool finite = true;
      auto* out = const_cast<std::byte*>(part->tiles) + first * tile_bytes(part->source.type, part->source.cols);
      const bool read = fill_tiles(*part, first, last, out, thread, finite);
      if (!read) lost_ = true;
      if (read && finite) return;
      for (std::size_t was = culprit; m < was && !culprit.compare_exchange_weak(was, m);) {
      }
    };
    const auto own = static_cast<std::size_t>(thread);
    for (std::size_t i = first_of[own]; i < first_of[own + 1]; ++i) fill_piece(i);
    for (std::size_t i = pieces.size(); i-- > 0;) fill_piece(i);  // from the end: owners are still at their beginning
  });
  which = culprit;
  if (lost_) return cut_short();
  if (which < matrices.size()) return error{errc::corrupt_file, "a scale of the weights is NaN or infinite", {}};
  return {};
}

bool weight_store::fill_tiles(const packed_part& part, std::int64_t first, std::int64_t last, std::byte* out,
                              int thread, bool& finite) noexcept {
  const tensor_view& source = part.source;
  const std::int64_t bytes = tile_bytes(source.type, source.cols);
  auto* staged = static_cast<std::byte*>(staging_.data()) + thread * staging_each_;
  const std::int64_t step = part.file == nullptr ? last - first : staged_tiles(source);
  for (std::int64_t tile = first; tile < last; tile += step) {
    const std::int64_t end = std::min(tile + step, last);
    const std::int64_t rows = std::min(end * tile_rows, source.rows) - tile * tile_rows;
    tensor_view some = source.slice_rows(tile * tile_rows, rows);
    if (part.file != nullptr) {
      const std::span<std::byte> into(staged, static_cast<std::size_t>(some.bytes()));
      if (!part.file->read(some.row_bytes(0) - part.file->bytes().data(), into)) return false;
      some.data = staged;
    }
    for (std::int64_t t = 0; t < end - tile; ++t, out += bytes) finite = pack_tile(some, t * tile_rows, out) && finite;
  }
  return true;
}

void weight_store::fill(const packed_part& part, std::int64_t first, std::int64_t last, std::byte* panel,
                        int thread) noexcept {
  bool finite = true;  // a scale that is not shows in the logits
  if (fill_tiles(part, first, last, panel, thread, finite)) return;
  lost_ = true;
  std::memset(panel, 0, static_cast<std::size_t>((last - first) * tile_bytes(part.source.type, part.source.cols)));
}

void weight_store::throw_if_lost() const {
  if (lost_) throw failure(cut_short());
  if (mapped_ && mapped_->lost())
    throw failure({errc::io, "the copy of the model's weights on disk has been cut short while it was in use", {}});
}

}  // namespace troupe::kernels
