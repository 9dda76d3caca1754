// The op interface over a thread team: cuts each op into shares and gives them to the kernel set. Knows no model.
#include "kernels/cpu/cpu_lane.hpp"

#include <algorithm>
#include <system_error>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/kept_costs.hpp"
#include "kernels/cpu/kernel_set.hpp"
#include "kernels/cpu/packed_tiles.hpp"
#include "kernels/cpu/product_runner.hpp"
#include "kernels/cpu/rope_writer.hpp"
#include "kernels/cpu/row_maxima.hpp"
#include "kernels/cpu/sample_row.hpp"
#include "kernels/cpu/way_meter.hpp"
#include "kernels/cpu/weight_store.hpp"

namespace troupe::kernels {
namespace {

using memory::dtype;

constexpr std::int64_t lone_elements = 16 * 1024;  // below it a dispatch costs more than a second thread saves

class team_lane final : public cpu_lane {
public:
  explicit team_lane(const cpu_lane_options& options)
      : options_(options), kernels_(kernels_for(options.which)),
        team_(plan_team(base::read_topology(), options.threads), when_late::narrow),
        weights_(team_, options.repack, options.weight_memory_bytes, options.copies), ways_(options.which),
        products_(kernels_, ways_, team_, weights_), sampling_(static_cast<std::size_t>(team_.size())) {
    for (sample_scratch& one : sampling_) one.kernels = &kernels_;
  }

  const thread_team& team() const noexcept override { return team_; }
  isa which() const noexcept override { return options_.which; }
  const product_ways& ways() const noexcept override { return ways_; }
  bool repacks() const noexcept override { return weights_.repacks(); }
  std::int64_t kv_bytes_read() const noexcept override { return attention_.bytes_read(); }

  result<memory::buffer> allocate(std::int64_t bytes) override { return memory::allocate_host(bytes); }
  result<void> expect_weights(const memory::mapped_file* file, std::int64_t bytes) override {
    return weights_.expect(file, bytes);
  }
  result<matrix> pack(std::span<const tensor_view> parts) override;
  result<void> finish_weights(std::size_t& which) override;
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

  void choose_ways();
  const float* as_f32(const tensor_view& weight);
  void product(const product_call& call);

  cpu_lane_options options_;
  const kernel_set& kernels_;
  thread_team team_;
  weight_store weights_;
  std::vector<dtype> types_;  ///< of the weights
  product_ways ways_;
  product_runner products_;
  attention_runner attention_;
  rope_writer rope_;
  std::vector<sample_scratch> sampling_;
  row_maxima maxima_;
  std::vector<float> norm_weight_;
  std::vector<std::byte> tile_;  ///< that a row is read from where weights are not repacked
};

// --- weights --------------------------------------------------------------------------------------------------

result<matrix> team_lane::pack(std::span<const tensor_view> parts) {
  auto packed = weights_.pack(parts);
  for (const tensor_view& part : parts)
    if (packed && std::find(types_.begin(), types_.end(), part.type) == types_.end()) types_.push_back(part.type);
  return packed;
}

result<void> team_lane::finish_weights(std::size_t& which) {
  choose_ways();  // before a copy of the weights is being written
  return weights_.finish(which);
}

void team_lane::choose_ways() {
  if (!options_.costs.wanted()) return;
  const auto usable = usable_sets(options_.which);
  const auto known = costs_for(types_, fingerprint(team_.size(), usable), options_.costs,
                               [&](dtype type) { return measure_ways(team_, type, usable); });
  ways_ = product_ways(options_.which, known.costs, usable);
}

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
        tile_.resize(std::max(tile_.size(), static_cast<std::size_t>(bytes)));
        weights_.fill(*part, tile, tile + 1, tile_.data(), 0);
      }
      const std::byte* from = part->tiles == nullptr ? tile_.data() : part->tiles + tile * bytes;
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

void team_lane::product(const product_call& call) {
  if (call.x.rows == 0) return;
  if (call.maxima == nullptr) maxima_.forget(call.out.f32());
  products_.run(call);
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

void team_lane::gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w,
                          const packed_matrix& down, const mlp_scratch& scratch) {
  const auto& gate_up = static_cast<const cpu_matrix&>(w);
  const auto& inner = static_cast<const cpu_matrix&>(down);
  if (x.rows == 0 || !products_.joins(gate_up, inner)) return lane::gated_mlp(x, weight, eps, w, down, scratch);
  maxima_.forget(x.f32());
  products_.run_joined({.w = &gate_up, .x = x, .out = scratch.gate_up, .norm_weight = as_f32(weight), .eps = eps},
                       {.w = &inner, .x = scratch.gated, .out = x, .add = true});
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
      picks[i] = sample_row({logits.f32(r), width}, rows[i], sampling_[static_cast<std::size_t>(thread)],
                            maxima_.row_of(logits, r));
    }
  };
  if (count == 1) sample_share(0, 1);
  else team_.run(sample_share);
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

void team_lane::rope_attention(tensor_view qkv, std::int32_t heads, const rope_shape& rope, float scale,
                               std::int32_t layer, kv_arena& kv, std::span<const sequence_rows> batch,
                               tensor_view out) {
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
