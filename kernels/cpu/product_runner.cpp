// Prepares inputs, deals tiles and tokens to threads. What is cut here moves no bit of a result: only when and by whom.
#include "kernels/cpu/product_runner.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::int64_t rows_prepared_by_all = 2;  // each thread for itself: no barrier before the product
constexpr std::size_t read_past = 512;            // a group of few tokens is read as if it were a full one
constexpr std::int64_t panel_tiles = 8;           // filled at once when weights are not repacked
constexpr std::int64_t run_tiles = sample_run / tile_rows;
constexpr std::int64_t joined_bytes = 64 * 1024;    // of gate and up, joined while they are in L1 or L2
constexpr std::int64_t head_tiles = 4 * run_tiles;  // whose logits are still in L1 or L2 when their maxima are taken

/// What members take at least: whole runs where their maxima are wanted.
std::int64_t item_tiles(const product_call& call) noexcept { return call.maxima != nullptr ? run_tiles : 2; }

/// Of gate, and as many of up; whole blocks of down's input.
constexpr std::int64_t columns_joined(std::int64_t tokens) noexcept {
  return std::max<std::int64_t>(1, joined_bytes / (tokens * 2 * 4 * quant_block)) * quant_block;
}

bool bf16_products(const cpu_matrix& w, const kernel_set& kernels) noexcept {
  return w.any_bf16 && kernels.to_bf16 != nullptr;
}

bool reads_floats(const cpu_matrix& w, const kernel_set& kernels) noexcept {
  return w.any_float || (w.any_bf16 && kernels.to_bf16 == nullptr);
}

token_grouping grouping_of(product_way way) noexcept { return {way.together, kernels_for(way.set).grouping.largest}; }

}  // namespace

/// Groups of tokens whose inputs stay in L2 while tiles stream by.
std::int64_t product_runner::groups_in_cache(token_grouping grouping, dtype weights, std::int64_t cols) const noexcept {
  const std::int64_t row_bytes = is_quantised(weights) ? cols * 3 / 2 : cols * 4;
  return std::max<std::int64_t>(4, limits_.input_bytes_at_once / row_bytes / grouping.usual);
}

void product_runner::reserve_rows(const product_call& call, product_way way, std::int64_t copies) {
  const kernel_set& kernels = kernels_for(way.set);
  const std::int64_t cols = call.w->cols;
  const auto elements = static_cast<std::size_t>(copies * call.x.rows * cols);
  const auto halves = static_cast<std::size_t>(copies * call.x.rows * halves_of(cols, kernels.bf16_together));
  const auto made = reads_floats(*call.w, kernels) ? elements : static_cast<std::size_t>(team_.size() * cols);
  if (call.makes_rows() && made_.size() < made) made_.resize(made);
  if (bf16_products(*call.w, kernels) && halves_.size() < halves + read_past) halves_.resize(halves + read_past);
  if (!call.w->any_quantised) return;
  if (quants_.size() < elements + read_past) quants_.resize(elements + read_past);
  if (blocks_.size() < elements / quant_block) blocks_.resize(elements / quant_block);
}

product_runner::prepared_rows product_runner::rows_for(const product_call& call, product_way way, std::int64_t copy,
                                                       int thread) {
  const kernel_set& kernels = kernels_for(way.set);
  const std::int64_t cols = call.w->cols;
  const std::int64_t elements = copy * call.x.rows * cols;
  prepared_rows rows;
  rows.kernels = &kernels;
  rows.grouping = grouping_of(way);
  rows.x = call.x.f32();
  rows.x_stride = call.x.stride_bytes / 4;
  if (call.makes_rows()) {
    const bool kept = reads_floats(*call.w, kernels);
    rows.made = made_.data() + (kept ? elements : thread * cols);
    rows.x = rows.made;
    rows.x_stride = kept ? cols : 0;
  }
  if (bf16_products(*call.w, kernels))
    rows.halves = halves_.data() + copy * call.x.rows * halves_of(cols, kernels.bf16_together);
  if (call.w->any_quantised) rows.quants = quants_.data() + elements;
  if (call.w->any_quantised) rows.blocks = blocks_.data() + elements / quant_block;
  return rows;
}

/// The columns of gate and up that this thread made itself.
share product_runner::columns_of(int thread, int threads, std::int64_t cols) const noexcept {
  const share tiles = team_.share_of((cols + quant_block - 1) / quant_block, thread, threads);
  return {std::min(tiles.first * quant_block, cols), std::min(tiles.last * quant_block, cols)};
}

/// `columns` are whole blocks but for the last of the row; a norm needs them all.
void product_runner::prepare(const product_call& call, const prepared_rows& rows, share tokens, share columns) const {
  const std::int64_t cols = call.w->cols, first = columns.first, count = columns.last - columns.first;
  const kernel_set& of_product = *rows.kernels;
  const token_groups groups(call.x.rows, rows.grouping);
  for (std::int64_t row = tokens.first; row < tokens.last; ++row) {
    const std::int64_t offset = row * rows.x_stride + first;
    const float* x = rows.x + offset;
    if (call.norm_weight != nullptr)
      kernels_.rms_norm(call.x.f32(row), call.norm_weight, cols, call.eps, rows.made + offset);
    if (call.gated)
      kernels_.silu_mul(call.x.f32(row) + first, call.x.f32(row) + cols + first, count, rows.made + offset);
    const token_group group = groups.of(row);
    const std::int64_t within = row - group.first;
    if (rows.halves != nullptr)
      of_product.to_bf16(x, count, group.size,
                         rows.halves + group.first * halves_of(cols, of_product.bf16_together) + first * group.size +
                             within * of_product.bf16_together);
    if (rows.quants == nullptr) continue;
    const std::int64_t at = group.first * cols + first * group.size + within * quant_block;
    of_product.quantise(x, count, group.size, rows.quants + at, rows.blocks + at / quant_block);
  }
}

void product_runner::multiply_part(const product_call& call, const prepared_rows& rows, const packed_part& part,
                                   tile_range tiles, int thread) {
  if (tiles.first >= tiles.last) return;
  product_args args;
  args.type = part.source.type;
  args.rows = part.source.rows;
  args.cols = call.w->cols;
  args.tokens = call.x.rows;
  args.grouping = rows.grouping;
  args.quants = rows.quants;
  args.blocks = rows.blocks;
  args.halves = rows.halves;
  args.x = rows.x;
  args.x_stride = rows.x_stride;
  args.out = call.out.f32() + part.first_row;
  args.out_stride = call.out.stride_bytes / 4;
  args.add = call.add;
  const std::int64_t bytes = tile_bytes(part.source.type, args.cols);
  const std::int64_t groups = token_groups(args.tokens, args.grouping).count();
  const std::int64_t at_once = groups_in_cache(args.grouping, part.source.type, args.cols);
  std::byte* panel =
      part.tiles == nullptr ? panels_.data() + thread * panel_tiles * tile_rows * args.cols * 4 : nullptr;
  const std::int64_t step = part.tiles == nullptr    ? panel_tiles
                            : call.maxima != nullptr ? head_tiles
                                                     : tiles.last - tiles.first;
  // A piece that was dealt out is mostly followed by the next one.
  const std::int64_t end = limits_.deals(args.tokens) ? tiles_of(args.rows) : tiles.last;
  for (std::int64_t tile = tiles.first; tile < tiles.last; tile += step) {
    args.first = tile;
    args.last = std::min(tile + step, tiles.last);
    args.tiles = panel == nullptr ? part.tiles + tile * bytes : panel;
    if (panel != nullptr) weights_.fill(part, args.first, args.last, panel, thread);
    args.next_tiles = panel == nullptr && args.last < end ? part.tiles + args.last * bytes : nullptr;
    for (args.first_group = 0; args.first_group < groups; args.first_group += at_once) {
      args.last_group = std::min(args.first_group + at_once, groups);
      rows.kernels->product(args);
    }
    if (call.maxima != nullptr) take_maxima(args, *call.maxima);
  }
}

/// Of tiles [args.first, args.last), whole runs but for the part's end.
void product_runner::take_maxima(const product_args& args, row_maxima& to) const {
  const std::int64_t first = args.first * tile_rows, last = std::min(args.last * tile_rows, args.rows);
  for (std::int64_t token = 0; token < args.tokens; ++token)
    kernels_.sampling.best_of_runs(args.out + token * args.out_stride + first, last - first, sample_run,
                                   to.row(token) + first / sample_run);
}

void product_runner::deal_tiles(const product_call& call) noexcept {
  const std::int64_t each = item_tiles(call);
  if (limits_.deals(call.x.rows)) tiles_left_.deal(team_, (call.w->tiles + each - 1) / each);
}

void product_runner::multiply(const product_call& call, const prepared_rows& rows, int thread, int threads) {
  const std::int64_t each = item_tiles(call);
  const auto multiply_items = [&](share items) {
    for (const packed_part& part : call.w->parts)
      multiply_part(call, rows, part, tiles_within(part, {items.first * each, items.last * each}), thread);
  };
  if (limits_.deals(call.x.rows)) {
    for (share items = tiles_left_.take(thread); items.first < items.last; items = tiles_left_.take(thread))
      multiply_items(items);
  } else if (call.maxima != nullptr) {
    multiply_items(team_.share_of((call.w->tiles + each - 1) / each, thread, threads));
  } else {
    for (const packed_part& part : call.w->parts)
      multiply_part(call, rows, part, tiles_of_thread(team_, *call.w, part, thread, threads), thread);
  }
}

void product_runner::run(const product_call& call) {
  const std::int64_t tokens = call.x.rows;
  const bool alone = team_.size() == 1 || call.w->bytes < limits_.lone_weight_bytes;
  const bool each = !alone && tokens <= rows_prepared_by_all;
  const product_way way = ways_.way(*call.w, tokens);
  reserve_rows(call, way, each ? team_.size() : 1);
  if (!weights_.repacks())
    panels_.resize(static_cast<std::size_t>(team_.size() * panel_tiles * tile_rows * call.w->cols * 4));
  deal_tiles(call);
  if (alone) {
    const prepared_rows rows = rows_for(call, way, 0, 0);
    prepare(call, rows, {0, tokens}, {0, call.w->cols});
    multiply(call, rows, 0, 1);
    return weights_.throw_if_lost();
  }
  team_.run([&](int thread, int threads) {
    const prepared_rows rows = rows_for(call, way, each ? thread : 0, thread);
    share mine{0, tokens}, columns{0, call.w->cols};
    if (!each && call.gated) columns = columns_of(thread, threads, call.w->cols);
    else if (!each) mine = team_.share_of(tokens, thread, threads);
    prepare(call, rows, mine, columns);
    if (!each) team_.barrier();
    multiply(call, rows, thread, threads);
  });
  weights_.throw_if_lost();
}

bool product_runner::joins(const cpu_matrix& gate_up, const cpu_matrix& down) const noexcept {
  const auto quantised = [](const cpu_matrix& w) { return w.any_quantised && !w.any_bf16 && !w.any_float; };
  return weights_.repacks() && gate_up.parts.size() == 2 && gate_up.alike && quantised(gate_up) && quantised(down) &&
         gate_up.bytes >= limits_.lone_weight_bytes;
}

/// Columns of gate and up for all tokens, a few columns at a time: multiplied, joined and quantised into `to`.
void product_runner::multiply_and_join(const product_call& call, const prepared_rows& rows, const prepared_rows& to,
                                       share columns, int thread) {
  const packed_part &gate = call.w->parts[0], &up = call.w->parts[1];
  const std::int64_t tokens = call.x.rows, cols = call.w->cols, inner = gate.source.rows;
  const std::int64_t at_once = columns_joined(tokens),
                     groups_at_once = groups_in_cache(rows.grouping, gate.source.type, cols);
  const token_groups groups(tokens, rows.grouping), inner_groups(tokens, to.grouping);
  float* both = joined_.data() + thread * tokens * 2 * at_once;
  product_args args;
  args.cols = cols;
  args.tokens = tokens;
  args.grouping = rows.grouping;
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
      const bool alike = gate.source.type == up.source.type;
      const std::int64_t next = first + at_once;  // where another piece begins, it is mostly this thread's too
      const bool more = next < columns.last || (limits_.deals(tokens) && columns.last < inner);
      args.type = gate.source.type;
      args.tiles = tiles_at(gate, first);
      args.next_tiles = alike ? tiles_at(up, first) : nullptr;
      args.out = both;
      rows.kernels->product(args);
      args.type = up.source.type;
      args.tiles = tiles_at(up, first);
      args.next_tiles = alike && more ? tiles_at(gate, std::min(next, columns.last)) : nullptr;
      args.out = both + at_once;
      rows.kernels->product(args);
      for (std::int64_t g = args.first_group; g < args.last_group; ++g)
        for (std::int64_t t = 0; t < groups[g].size; ++t) {
          const std::int64_t token = groups[g].first + t;
          float* row = both + token * args.out_stride;
          kernels_.silu_mul(row, row + at_once, args.rows, row);
          const token_group group = inner_groups.of(token);
          const std::int64_t at = group.first * inner + first * group.size + (token - group.first) * quant_block;
          to.kernels->quantise(row, args.rows, group.size, to.quants + at, to.blocks + at / quant_block);
        }
    }
  }
}

void product_runner::reserve_joined(std::int64_t tokens, std::int64_t cols) {
  const auto elements = static_cast<std::size_t>(tokens * cols);
  if (joined_quants_.size() < elements + read_past) joined_quants_.resize(elements + read_past);
  if (joined_blocks_.size() < elements / quant_block) joined_blocks_.resize(elements / quant_block);
  const auto floats = static_cast<std::size_t>(team_.size() * tokens * 2 * columns_joined(tokens));
  if (joined_.size() < floats) joined_.resize(floats);
}

void product_runner::run_joined(const product_call& first, const product_call& second) {
  const std::int64_t tokens = first.x.rows, inner_cols = second.w->cols;
  const bool each = tokens <= rows_prepared_by_all;
  const product_way way = ways_.way(*first.w, tokens), of_second = ways_.way(*second.w, tokens);
  reserve_rows(first, way, each ? team_.size() : 1);
  reserve_joined(tokens, inner_cols);
  deal_tiles(second);
  if (limits_.deals(tokens)) columns_left_.deal(team_, (inner_cols + quant_block - 1) / quant_block);
  team_.run([&](int thread, int threads) {
    const prepared_rows rows = rows_for(first, way, each ? thread : 0, thread);
    const prepared_rows inner{.kernels = &kernels_for(of_second.set),
                              .grouping = grouping_of(of_second),
                              .quants = joined_quants_.data(),
                              .blocks = joined_blocks_.data()};
    prepare(first, rows, each ? share{0, tokens} : team_.share_of(tokens, thread, threads), {0, first.w->cols});
    if (!each) team_.barrier();
    if (limits_.deals(tokens)) {
      for (share blocks = columns_left_.take(thread); blocks.first < blocks.last; blocks = columns_left_.take(thread))
        multiply_and_join(first, rows, inner,
                          {blocks.first * quant_block, std::min(blocks.last * quant_block, inner_cols)}, thread);
    } else {
      multiply_and_join(first, rows, inner, columns_of(thread, threads, inner_cols), thread);
    }
    team_.barrier();
    multiply(second, inner, thread, threads);
  });
}

}  // namespace troupe::kernels
