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

constexpr std::int64_t staged_bytes = 256 << 10;   // of the file at a time: with its tiles they stay in a core's L2
constexpr std::int64_t spare_bytes = 64 << 20;     // beside the weights, for all that is small
constexpr std::int64_t alignment = 64;

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
      return error{errc::unsupported, "rows of " + std::to_string(part.cols) + " are not whole blocks of " +
                                          std::string(memory::info(part.type).name), {}};
    w->parts.push_back({part, file, nullptr, w->rows, w->tiles});
    w->rows += part.rows;
    w->tiles += tiles_of(part.rows);
    w->bytes += tiles_of(part.rows) * tile_bytes(part.type, part.cols);
    w->any_quantised = w->any_quantised || is_quantised(part.type);
    w->any_bf16 = w->any_bf16 || part.type == dtype::bf16;
    w->any_float = w->any_float || part.type == dtype::f16 || part.type == dtype::f32;
  }
  return w;
}

error cut_short() { return {errc::io, "the model's file has been cut short or cannot be read any more", {}}; }

}  // namespace

result<void> weight_store::expect(const memory::mapped_file* file, std::int64_t bytes) {
  file_ = file;
  slab_.reset();
  if (!repack_ || bytes == 0) return {};
  const std::int64_t needed = with_tiles(bytes);
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
  return {};
}

/// From the slab while it lasts: small matrices too then lie in huge pages.
result<memory::buffer> weight_store::take(std::int64_t bytes) {
  if (!slab_ || bytes > slab_->bytes() - slab_used_) return memory::allocate_host(bytes);
  auto* at = static_cast<std::byte*>(slab_->data()) + slab_used_;
  slab_used_ = std::min(slab_->bytes(), (slab_used_ + bytes + alignment - 1) / alignment * alignment);
  return memory::buffer(at, bytes, [slab = slab_](void*) {});
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
  auto w = lay_out(parts, file_);
  if (!w) return w.why();
  if (auto reserved = reserve_staging(**w); !reserved) return reserved.why();
  if (!repack_) return matrix{*std::move(w)};
  auto storage = take((*w)->bytes);
  if (!storage) return storage.why();
  (*w)->storage = *std::move(storage);
  const bool finite = fill_all(**w);
  if (lost_) return cut_short();
  if (!finite) return error{errc::corrupt_file, "a scale of the weights is NaN or infinite", {}};
  return matrix{*std::move(w)};
}

/// Each thread the tiles that it will multiply with, so that it is the first to touch their pages.
bool weight_store::fill_all(cpu_matrix& w) {
  auto* at = static_cast<std::byte*>(w.storage.data());
  for (packed_part& part : w.parts) {
    part.tiles = at;
    at += tiles_of(part.source.rows) * tile_bytes(part.source.type, w.cols);
  }
  std::atomic<bool> all_finite{true};
  team_.run([&](int thread, int threads) {
    const share mine = team_.share_of(w.tiles, thread, threads);
    for (const packed_part& part : w.parts) {
      const tile_range tiles = within(part, mine);
      if (tiles.first >= tiles.last) continue;
      bool finite = true;
      std::byte* out = const_cast<std::byte*>(part.tiles) + tiles.first * tile_bytes(part.source.type, w.cols);
      if (!fill_tiles(part, tiles.first, tiles.last, out, thread, finite)) lost_ = true;
      if (!finite) all_finite = false;
    }
  });
  return all_finite;
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
}

}  // namespace troupe::kernels
