// The op interface over a thread team: cuts each op into shares and gives them to the kernel set. Knows no model.
#include "kernels/cpu/cpu_lane.hpp"

#include <algorithm>
#include <system_error>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/rope_writer.hpp"
#include "kernels/cpu/row_maxima.hpp"
#include "kernels/cpu/sample_row.hpp"
#include "kernels/cpu/weight_store.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

// Below these a dispatch costs more than a second thread saves.
constexpr std::int64_t lone_elements = 16 * 1024;
constexpr std::int64_t lone_weight_bytes = 32 * 1024;
constexpr std::int64_t rows_prepared_by_all = 2;          // each thread for itself: no barrier before the product
constexpr std::int64_t input_bytes_at_once = 512 * 1024;  // quantised rows that stay in L2 while tiles stream by
constexpr std::size_t read_past = 512;                    // a group of few tokens is read as if it were a full one
constexpr std::int64_t panel_tiles = 8;                   // filled at once when weights are not repacked
constexpr std::int64_t run_tiles = sample_run / tile_rows;
constexpr std::int64_t joined_bytes = 64 * 1024;          // of gate and up, joined while they are in L1 or L2
constexpr std::int64_t head_tiles = 4 * run_tiles;        // whose logits are still in L1 or L2 when their maxima are taken

/// The rows of x made ready for a product: normed or gated if wanted, and quantised or rounded if a part needs it.
struct prepared_rows {
  float* made = nullptr;        ///< where a normed or gated row goes: with a stride of 0 no product reads it as floats
  const float* x = nullptr;
  std::int64_t x_stride = 0;
  std::int8_t* quants = nullptr;
  activation_block* blocks = nullptr;
  std::uint16_t* halves = nullptr;
};

struct product_call {
  const cpu_matrix* w = nullptr;
  tensor_view x;
  tensor_view out;
  bool add = false;
  const float* norm_weight = nullptr;  ///< null: x is not normed
  float eps = 0.0f;
  row_maxima* maxima = nullptr;  ///< of `out`, to be filled in; null: nobody wants them
  bool gated = false;  ///< x is [gate | up]: its rows are twice as long as the product's

  bool makes_rows() const noexcept { return norm_weight != nullptr || gated; }
};

/// Of gate, and as many of up; whole blocks of down's input.
constexpr std::int64_t columns_joined(std::int64_t tokens) noexcept {
  return std::max<std::int64_t>(1, joined_bytes / (tokens * 2 * 4 * quant_block)) * quant_block;
}

class team_lane final : public cpu_lane {
public:
  explicit team_lane(const cpu_lane_options& options)
      : options_(options),
        kernels_(kernels_for(options.which)),
        team_(plan_team(base::read_topology(), options.threads), when_late::narrow),
        weights_(team_, options.repack, options.weight_memory_bytes, options.copies),
        sampling_(static_cast<std::size_t>(team_.size()), {&kernels_, {}, {}, {}, {}, {}}) {}

  const thread_team& team() const noexcept override { return team_; }
  isa which() const noexcept override { return options_.which; }
  bool repacks() const noexcept override { return weights_.repacks(); }
  std::int64_t kv_bytes_read() const noexcept override { return attention_.bytes_read(); }

  result<memory::buffer> allocate(std::int64_t bytes) override { return memory::allocate_host(bytes); }
  result<void> expect_weights(const memory::mapped_file* file, std::int64_t bytes) override {
    return weights_.expect(file, bytes);
  }
  result<matrix> pack(std::span<const tensor_view> parts) override { return weights_.pack(parts); }
  result<void> finish_weights(std::size_t& which) override { return weights_.finish(which); }
  void wait_for_copy() override { weights_.wait_for_copy(); }
  std::int64_t kv_block_bytes(const kv_shape& shape) const override;
  result<std::unique_ptr<kv_arena>> make_kv(const kv_shape& shape, std::int32_t blocks) override;

  void embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) override;
  void rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) override;
  void linear(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void head(const packed_matrix& w, tensor_view x, tensor_view logits) override;
  void linear_add(const packed_matrix& w, tensor_view x, tensor_view out) override;
  void norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view scratch,
                   tensor_view out) override;
  void rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer, kv_arena& kv,
                  std::span<const sequence_rows> batch) override;
  void attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                 std::span<const sequence_rows> batch, tensor_view out) override;
  void rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale, std::int32_t layer,
                      kv_arena& kv, std::span<const sequence_rows> batch, tensor_view out) override;
  void silu_mul(tensor_view gate_up, tensor_view out) override;
  void silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view scratch, tensor_view out) override;
  void gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, const packed_matrix& down,
                 const mlp_scratch& scratch) override;
  void sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) override;

private:
  /// Calls work(first, last) for each thread's share of `rows` rows, on the caller alone if they are few.
  template <class Work>
  void over_rows(std::int64_t rows, std::int64_t elements, Work&& work) {
    if (team_.size() == 1 || elements < lone_elements) return work(std::int64_t{0}, rows);
    team_.run([&](int thread, int threads) {
      const share mine = team_.share_of(rows, thread, threads);
      if (mine.first < mine.last) work(mine.first, mine.last);
    });
  }

  const float* as_f32(const tensor_view& weight);
  void product(const product_call& call);
  /// bf16 numbers of a row of `cols` columns.
  std::int64_t halves_of(std::int64_t cols) const noexcept { return kernels::halves_of(cols, kernels_.bf16_together); }
  bool bf16_products(const cpu_matrix& w) const noexcept { return w.any_bf16 && kernels_.to_bf16 != nullptr; }
  bool reads_floats(const cpu_matrix& w) const noexcept {
    return w.any_float || (w.any_bf16 && kernels_.to_bf16 == nullptr);
  }
  share columns_of(int thread, int threads, std::int64_t cols) const noexcept;
  /// Groups of tokens whose inputs stay in L2 while tiles stream by.
  std::int64_t groups_in_cache(dtype weights, std::int64_t cols) const noexcept {
    const std::int64_t row_bytes = is_quantised(weights) ? cols * 3 / 2 : cols * 4;
    return std::max<std::int64_t>(4, input_bytes_at_once / row_bytes / kernels_.grouping.usual);
  }
  void reserve_rows(const product_call& call, std::int64_t copies);
  prepared_rows rows_for(const product_call& call, std::int64_t copy, int thread);
  void prepare(const product_call& call, const prepared_rows& rows, share tokens, share columns) const;
  void multiply(const product_call& call, const prepared_rows& rows, int thread, int threads);
  bool joins(const cpu_matrix& gate_up, const cpu_matrix& down) const noexcept;
  void multiply_and_join(const product_call& call, const prepared_rows& rows, const prepared_rows& to, share columns, int thread);
  void multiply_part(const packed_part& part, product_args args, tile_range tiles, int thread, row_maxima* maxima);
  void take_maxima(const product_args& args, row_maxima& to) const;

  cpu_lane_options options_;
  const kernel_set& kernels_;
  thread_team team_;
  weight_store weights_;
  attention_runner attention_;
  rope_writer rope_;
  std::vector<sample_scratch> sampling_;
  row_maxima maxima_;
  std::vector<float> norm_weight_;
  std::vector<float> made_;
  std::vector<std::int8_t> quants_;
  std::vector<activation_block> blocks_;
  std::vector<std::uint16_t> halves_;
  std::vector<std::int8_t> joined_quants_;
  std::vector<activation_block> joined_blocks_;
  std::vector<float> joined_;
  std::vector<std::byte> panels_;
};

// --- weights --------------------------------------------------------------------------------------------------

void team_lane::embed(const packed_matrix& table, std::span<const std::int32_t> ids, tensor_view out) {
  const auto& w = static_cast<const cpu_matrix&>(table);
  const std::int64_t count = static_cast<std::int64_t>(ids.size());
  const auto embed_rows = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t id = ids[static_cast<std::size_t>(i)];
      const packed_part* part = &w.parts.front();
      while (id >= part->first_row + part->source.rows) ++part;
      const std::int64_t row = id - part->first_row;
      const std::int64_t tile = row / tile_rows, bytes = tile_bytes(part->source.type, w.cols);
      if (part->tiles == nullptr) {
        panels_.resize(std::max(panels_.size(), static_cast<std::size_t>(bytes)));
        weights_.fill(*part, tile, tile + 1, panels_.data(), 0);
      }
      const std::byte* from = part->tiles == nullptr ? panels_.data() : part->tiles + tile * bytes;
      read_tile_row(part->source.type, from, row % tile_rows, w.cols, out.f32(i));
    }
  };
  if (weights_.repacks()) return over_rows(count, count * w.cols, embed_rows);
  embed_rows(0, count);
  weights_.throw_if_lost();
}

// --- products -------------------------------------------------------------------------------------------------

const float* team_lane::as_f32(const tensor_view& weight) {
  if (weight.type == dtype::f32) return weight.f32();
  norm_weight_.resize(static_cast<std::size_t>(weight.cols));
  const auto* from = reinterpret_cast<const std::uint16_t*>(weight.row_bytes(0));
  for (std::size_t i = 0; i < norm_weight_.size(); ++i)
    norm_weight_[i] = weight.type == dtype::f16 ? f16_to_f32(from[i]) : bf16_to_f32(from[i]);
  return norm_weight_.data();
}

void team_lane::reserve_rows(const product_call& call, std::int64_t copies) {
  const std::int64_t cols = call.w->cols;
  const auto elements = static_cast<std::size_t>(copies * call.x.rows * cols);
  const auto halves = static_cast<std::size_t>(copies * call.x.rows * halves_of(cols));
  const auto made = reads_floats(*call.w) ? elements : static_cast<std::size_t>(team_.size() * cols);
  if (call.makes_rows() && made_.size() < made) made_.resize(made);
  if (bf16_products(*call.w) && halves_.size() < halves + read_past) halves_.resize(halves + read_past);
  if (!call.w->any_quantised) return;
  if (quants_.size() < elements + read_past) quants_.resize(elements + read_past);
  if (blocks_.size() < elements / quant_block) blocks_.resize(elements / quant_block);
}

prepared_rows team_lane::rows_for(const product_call& call, std::int64_t copy, int thread) {
  const std::int64_t cols = call.w->cols;
  const std::int64_t elements = copy * call.x.rows * cols;
  prepared_rows rows;
  rows.x = call.x.f32();
  rows.x_stride = call.x.stride_bytes / 4;
  if (call.makes_rows()) {
    const bool kept = reads_floats(*call.w);
    rows.made = made_.data() + (kept ? elements : thread * cols);
    rows.x = rows.made;
    rows.x_stride = kept ? cols : 0;
  }
  if (bf16_products(*call.w)) rows.halves = halves_.data() + copy * call.x.rows * halves_of(cols);
  if (call.w->any_quantised) rows.quants = quants_.data() + elements;
  if (call.w->any_quantised) rows.blocks = blocks_.data() + elements / quant_block;
  return rows;
}

/// The columns of gate and up that this thread made itself.
share team_lane::columns_of(int thread, int threads, std::int64_t cols) const noexcept {
  const share tiles = team_.share_of((cols + quant_block - 1) / quant_block, thread, threads);
  return {std::min(tiles.first * quant_block, cols), std::min(tiles.last * quant_block, cols)};
}

/// `columns` are whole blocks but for the last of the row; a norm needs them all.
void team_lane::prepare(const product_call& call, const prepared_rows& rows, share tokens, share columns) const {
  const std::int64_t cols = call.w->cols, first = columns.first, count = columns.last - columns.first;
  const token_groups groups(call.x.rows, kernels_.grouping);
  for (std::int64_t row = tokens.first; row < tokens.last; ++row) {
    const std::int64_t offset = row * rows.x_stride + first;
    const float* x = rows.x + offset;
    if (call.norm_weight != nullptr)
      kernels_.rms_norm(call.x.f32(row), call.norm_weight, cols, call.eps, rows.made + offset);
    if (call.gated) kernels_.silu_mul(call.x.f32(row) + first, call.x.f32(row) + cols + first, count, rows.made + offset);
    const token_group group = groups.of(row);
    const std::int64_t within = row - group.first;
    if (rows.halves != nullptr)
      kernels_.to_bf16(x, count, group.size,
                       rows.halves + group.first * halves_of(cols) + first * group.size + within * kernels_.bf16_together);
    if (rows.quants == nullptr) continue;
    const std::int64_t at = group.first * cols + first * group.size + within * quant_block;
    kernels_.quantise(x, count, group.size, rows.quants + at, rows.blocks + at / quant_block);
  }
}

void team_lane::multiply_part(const packed_part& part, product_args args, tile_range tiles, int thread, row_maxima* maxima) {
  const std::int64_t bytes = tile_bytes(part.source.type, args.cols);
  const std::int64_t groups = token_groups(args.tokens, kernels_.grouping).count();
  const std::int64_t at_once = groups_in_cache(part.source.type, args.cols);
  std::byte* panel =
      part.tiles == nullptr ? panels_.data() + thread * panel_tiles * tile_rows * args.cols * 4 : nullptr;
  const std::int64_t step = part.tiles == nullptr ? panel_tiles : maxima != nullptr ? head_tiles : tiles.last - tiles.first;
  for (std::int64_t tile = tiles.first; tile < tiles.last; tile += step) {
    args.first = tile;
    args.last = std::min(tile + step, tiles.last);
    args.tiles = panel == nullptr ? part.tiles + tile * bytes : panel;
    if (panel != nullptr) weights_.fill(part, args.first, args.last, panel, thread);
    args.next_tiles = panel == nullptr && args.last < tiles.last ? part.tiles + args.last * bytes : nullptr;
    for (args.first_group = 0; args.first_group < groups; args.first_group += at_once) {
      args.last_group = std::min(args.first_group + at_once, groups);
      kernels_.product(args);
    }
    if (maxima != nullptr) take_maxima(args, *maxima);
  }
}

/// Of tiles [args.first, args.last), whole runs but for the part's end.
void team_lane::take_maxima(const product_args& args, row_maxima& to) const {
  const std::int64_t first = args.first * tile_rows, last = std::min(args.last * tile_rows, args.rows);
  for (std::int64_t token = 0; token < args.tokens; ++token)
    kernels_.best_of_runs(args.out + token * args.out_stride + first, last - first, sample_run, to.row(token) + first / sample_run);
}

void team_lane::multiply(const product_call& call, const prepared_rows& rows, int thread, int threads) {
  for (const packed_part& part : call.w->parts) {
    tile_range tiles = tiles_of_thread(team_, *call.w, part, thread, threads);
    if (call.maxima != nullptr) {  // the only part: whole runs for each thread
      const share runs = team_.share_of((call.w->tiles + run_tiles - 1) / run_tiles, thread, threads);
      tiles = {runs.first * run_tiles, std::min(runs.last * run_tiles, call.w->tiles)};
    }
    if (tiles.first >= tiles.last) continue;
    product_args args;
    args.type = part.source.type;
    args.rows = part.source.rows;
    args.cols = call.w->cols;
    args.tokens = call.x.rows;
    args.quants = rows.quants;
    args.blocks = rows.blocks;
    args.halves = rows.halves;
    args.x = rows.x;
    args.x_stride = rows.x_stride;
    args.out = call.out.f32() + part.first_row;
    args.out_stride = call.out.stride_bytes / 4;
    args.add = call.add;
    multiply_part(part, args, tiles, thread, call.maxima);
  }
}

void team_lane::product(const product_call& call) {
  const std::int64_t tokens = call.x.rows;
  if (tokens == 0) return;
  if (call.maxima == nullptr) maxima_.forget(call.out.f32());
  const bool alone = team_.size() == 1 || call.w->bytes < lone_weight_bytes;
  const bool each = !alone && tokens <= rows_prepared_by_all;
  reserve_rows(call, each ? team_.size() : 1);
  if (!weights_.repacks())
    panels_.resize(static_cast<std::size_t>(team_.size() * panel_tiles * tile_rows * call.w->cols * 4));
  if (alone) {
    const prepared_rows rows = rows_for(call, 0, 0);
    prepare(call, rows, {0, tokens}, {0, call.w->cols});
    multiply(call, rows, 0, 1);
    return weights_.throw_if_lost();
  }
  team_.run([&](int thread, int threads) {
    const prepared_rows rows = rows_for(call, each ? thread : 0, thread);
    share mine{0, tokens}, columns{0, call.w->cols};
    if (!each && call.gated)
      columns = columns_of(thread, threads, call.w->cols);
    else if (!each)
      mine = team_.share_of(tokens, thread, threads);
    prepare(call, rows, mine, columns);
    if (!each) team_.barrier();
    multiply(call, rows, thread, threads);
  });
  weights_.throw_if_lost();
}

void team_lane::linear(const packed_matrix& w, tensor_view x, tensor_view out) {
  product({.w = static_cast<const cpu_matrix*>(&w), .x = x, .out = out});
}

void team_lane::head(const packed_matrix& w, tensor_view x, tensor_view logits) {
  const auto& matrix = static_cast<const cpu_matrix&>(w);
  if (matrix.parts.size() != 1) return linear(w, x, logits);  // parts may end within a run
  maxima_.begin(logits);
  product({.w = &matrix, .x = x, .out = logits, .maxima = &maxima_});
}

void team_lane::linear_add(const packed_matrix& w, tensor_view x, tensor_view out) {
  product({.w = static_cast<const cpu_matrix*>(&w), .x = x, .out = out, .add = true});
}

void team_lane::norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view,
                            tensor_view out) {
  product({.w = static_cast<const cpu_matrix*>(&w), .x = x, .out = out, .norm_weight = as_f32(weight), .eps = eps});
}

void team_lane::silu_linear_add(tensor_view gate_up, const packed_matrix& w, tensor_view, tensor_view out) {
  product({.w = static_cast<const cpu_matrix*>(&w), .x = gate_up, .out = out, .add = true, .gated = true});
}

/// Whether the inputs of `down` can be made while gate and up are multiplied: both want int8 alone.
bool team_lane::joins(const cpu_matrix& gate_up, const cpu_matrix& down) const noexcept {
  const auto quantised = [](const cpu_matrix& w) { return w.any_quantised && !w.any_bf16 && !w.any_float; };
  return weights_.repacks() && gate_up.parts.size() == 2 && gate_up.alike && quantised(gate_up) && quantised(down) &&
         gate_up.bytes >= lone_weight_bytes;
}

/// Columns of gate and up for all tokens, a few columns at a time: multiplied, joined and quantised into `to`.
void team_lane::multiply_and_join(const product_call& call, const prepared_rows& rows, const prepared_rows& to, share columns,
                                  int thread) {
  const packed_part &gate = call.w->parts[0], &up = call.w->parts[1];
  const std::int64_t tokens = call.x.rows, cols = call.w->cols, inner = gate.source.rows;
  const std::int64_t at_once = columns_joined(tokens), groups_at_once = groups_in_cache(gate.source.type, cols);
  const token_groups groups(tokens, kernels_.grouping);
  float* both = joined_.data() + thread * tokens * 2 * at_once;
  product_args args;
  args.cols = cols;
  args.tokens = tokens;
  args.quants = rows.quants;
  args.blocks = rows.blocks;
  args.out_stride = 2 * at_once;
  const auto tiles_at = [cols](const packed_part& part, std::int64_t column) {
    return part.tiles + column / tile_rows * tile_bytes(part.source.type, cols);
  };
  for (args.first_group = 0; args.first_group < groups.count(); args.first_group = args.last_group) {
    args.last_group = std::min(args.first_group + groups_at_once, groups.count());
    for (std::int64_t first = columns.first; first < columns.last; first += at_once) {
      args.rows = std::min(at_once, columns.last - first);
      args.last = args.rows / tile_rows;
      const bool alike = gate.source.type == up.source.type, more = first + at_once < columns.last;
      args.type = gate.source.type;
      args.tiles = tiles_at(gate, first);
      args.next_tiles = alike ? tiles_at(up, first) : nullptr;
      args.out = both;
      kernels_.product(args);
      args.type = up.source.type;
      args.tiles = tiles_at(up, first);
      args.next_tiles = alike && more ? tiles_at(gate, first + at_once) : nullptr;
      args.out = both + at_once;
      kernels_.product(args);
      for (std::int64_t g = args.first_group; g < args.last_group; ++g)
        for (std::int64_t t = 0; t < groups[g].size; ++t) {
          float* row = both + (groups[g].first + t) * args.out_stride;
          kernels_.silu_mul(row, row + at_once, args.rows, row);
          const std::int64_t at = groups[g].first * inner + first * groups[g].size + t * quant_block;
          kernels_.quantise(row, args.rows, groups[g].size, to.quants + at, to.blocks + at / quant_block);
        }
    }
  }
}

void team_lane::gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, const packed_matrix& down,
                          const mlp_scratch& scratch) {
  const auto& gate_up = static_cast<const cpu_matrix&>(w);
  if (x.rows == 0 || !joins(gate_up, static_cast<const cpu_matrix&>(down)))
    return lane::gated_mlp(x, weight, eps, w, down, scratch);
  const product_call first{.w = &gate_up, .x = x, .out = scratch.gate_up, .norm_weight = as_f32(weight), .eps = eps};
  const product_call second{.w = static_cast<const cpu_matrix*>(&down), .x = scratch.gated, .out = x, .add = true};
  const std::int64_t tokens = x.rows;
  const bool each = tokens <= rows_prepared_by_all;
  reserve_rows(first, each ? team_.size() : 1);
  const auto joined = static_cast<std::size_t>(tokens * down.cols);
  if (joined_quants_.size() < joined + read_past) joined_quants_.resize(joined + read_past);
  if (joined_blocks_.size() < joined / quant_block) joined_blocks_.resize(joined / quant_block);
  const auto floats = static_cast<std::size_t>(team_.size() * tokens * 2 * columns_joined(tokens));
  if (joined_.size() < floats) joined_.resize(floats);
  maxima_.forget(x.f32());
  team_.run([&](int thread, int threads) {
    const prepared_rows rows = rows_for(first, each ? thread : 0, thread);
    const prepared_rows inner{.quants = joined_quants_.data(), .blocks = joined_blocks_.data()};
    prepare(first, rows, each ? share{0, tokens} : team_.share_of(tokens, thread, threads), {0, w.cols});
    if (!each) team_.barrier();
    multiply_and_join(first, rows, inner, columns_of(thread, threads, down.cols), thread);
    team_.barrier();
    multiply(second, inner, thread, threads);
  });
}

// --- rows -----------------------------------------------------------------------------------------------------

void team_lane::rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) {
  const float* factors = as_f32(weight);
  over_rows(x.rows, x.rows * x.cols, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row) kernels_.rms_norm(x.f32(row), factors, x.cols, eps, out.f32(row));
  });
}

void team_lane::silu_mul(tensor_view gate_up, tensor_view out) {
  const std::int64_t n = gate_up.cols / 2;
  over_rows(gate_up.rows, gate_up.rows * n, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first; row < last; ++row)
      kernels_.silu_mul(gate_up.f32(row), gate_up.f32(row) + n, n, out.f32(row));
  });
}

void team_lane::sample(tensor_view logits, std::span<const sampling_row> rows, std::span<sampled> picks) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto width = static_cast<std::size_t>(logits.cols);
  const auto sample_share = [&](int thread, int threads) {
    const share mine = team_.share_of(count, thread, threads);
    for (std::int64_t r = mine.first; r < mine.last; ++r) {
      const auto i = static_cast<std::size_t>(r);
      picks[i] = sample_row({logits.f32(r), width}, rows[i], sampling_[static_cast<std::size_t>(thread)], maxima_.row_of(logits, r));
    }
  };
  if (count == 1)
    sample_share(0, 1);
  else
    team_.run(sample_share);
  maxima_.forget(logits.f32());  // they may be penalised ones now
}

// --- KV -------------------------------------------------------------------------------------------------------

std::int64_t team_lane::kv_block_bytes(const kv_shape& shape) const { return cpu_kv_block_bytes(shape, options_.kv); }

result<std::unique_ptr<kv_arena>> team_lane::make_kv(const kv_shape& shape, std::int32_t blocks) {
  return make_cpu_kv_arena(shape, options_.kv, blocks);
}

void team_lane::rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer,
                           kv_arena& kv, std::span<const sequence_rows> batch) {
  rope_.prepare(rope, batch);
  rope_.run({qkv, heads, layer, static_cast<const cpu_kv_arena*>(&kv)}, kernels_, team_);
}

void team_lane::attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                          std::span<const sequence_rows> batch, tensor_view out) {
  attention_.run({qkv, heads, scale, layer, static_cast<const cpu_kv_arena*>(&kv), out}, batch, kernels_, team_);
}

void team_lane::rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale, std::int32_t layer,
                               kv_arena& kv, std::span<const sequence_rows> batch, tensor_view out) {
  const auto* arena = static_cast<const cpu_kv_arena*>(&kv);
  rope_.prepare(rope, batch);
  attention_.run({qkv, heads, scale, layer, arena, out, &rope_}, batch, kernels_, team_);
}

}  // namespace

result<std::unique_ptr<cpu_lane>> make_cpu_lane(const cpu_lane_options& options) {
  if (options.threads < 1) return error{errc::invalid_argument, "a lane needs at least one thread", {}};
  if (!machine_has(options.which))
    return error{errc::unsupported,
                 "this machine cannot execute " + std::string(to_string(options.which)) + "; the best it has is " +
                     std::string(to_string(best_isa())),
                 {}};
  try {
    return std::unique_ptr<cpu_lane>{std::make_unique<team_lane>(options)};
  } catch (const std::system_error& failed) {
    return error{errc::internal, std::string("a compute thread could not be started: ") + failed.what(), {}};
  }
}

}  // namespace troupe::kernels
