// A step for attention to run on: sequences of given lengths over an arena with blocks in random order, everything that
// no one wrote poisoned; and what attention should answer, in double. Used by attention_test and bench/cuda_attention.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include <cuda_fp8.h>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/rope_store.hpp"
#include "kernels/cuda/shared_reads.hpp"
#include "kernels/cuda/step_plan.hpp"
#include "kernels/cuda/wide_kv.hpp"
#include "tests/gpu/device_array.hpp"
#include "tests/gpu/narrow_oracle.hpp"

namespace troupe::kernels::cuda {

/// bf16 between -1 and 1, all different.
static __global__ void fill_random(bf16* to, std::size_t size, unsigned seed) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < size;
       i += std::size_t{gridDim.x} * blockDim.x) {
    unsigned x = static_cast<unsigned>(i) * 2654435761u ^ seed ^ static_cast<unsigned>(i >> 32) * 40503u;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    x *= 0x297a2d39u;
    x ^= x >> 15;
    to[i] = __float2bfloat16(static_cast<float>(x) * 0x1p-31f - 1.0f);
  }
}

enum class contents { poisoned_around, random_on_device };

struct head_shape {
  int heads, kv_heads, head_dim;
  bool interleaved;
  int rotated;  ///< dims
};

struct sequence_shape {
  int past, rows;
  int parent = -1;  ///< an earlier sequence that has the same blocks
  int shared = 0;   ///< so many
};

class attention_world {
public:
  attention_world(const head_shape& shape, std::vector<sequence_shape> sequences, unsigned seed, int layers = 1,
                  contents how = contents::poisoned_around, kv_format format = kv_format::bf16)
      : shape_(shape), sequences_(std::move(sequences)), random_(seed), layers_(layers), format_(format) {
    make_tables();
    if (how == contents::poisoned_around) {
      make_arena();
      return;
    }
    arena_ = device_array<std::byte>(static_cast<std::size_t>((blocks_ + 1) * layout().block_bytes()));
    make_rows();
    if (format_ == kv_format::bf16)
      fill_random<<<1024, 256>>>(reinterpret_cast<bf16*>(arena_.data()), arena_.size() / 2, seed);
    else arena_.fill(0x3a);  // numbers and scales alike
    fill_random<<<1024, 256>>>(qkv_.data(), qkv_.size(), seed + 1);
  }

  int row_width() const { return (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim; }
  int rows() const { return rows_; }

  /// Fresh random rows, the arena as it was before the step, the output poisoned.
  void reset() {
    qkv_.upload(host_qkv_);
    arena_.upload(host_arena_);
    out_.fill(0xff);
  }
  void plan(cudaStream_t on = nullptr) {
    step_planning p;
    p.tables = &tables_;
    p.frequencies = frequencies_.data();
    p.pairs = shape_.rotated / 2;
    p.tile_rows = prefill_tile_rows();
    p.groups = decode_groups(shape_.heads, shape_.kv_heads);
    p.in_clusters = in_clusters();
    p.shared = shared_;
    p.plan = plan_;
    make_step_plan(p, on);
  }
  /// From now on what sequences share is read once, in about so many works. False where there is nothing, or too
  /// little.
  bool share(int works, std::int64_t least_saved_bytes = 0) {
    std::vector<sequence_rows> batch;
    for (std::size_t s = 0; s < sequences_.size(); ++s)
      batch.push_back({first_row_[s], sequences_[s].rows, sequences_[s].past,
                       std::span(host_tables_)
                           .subspan(s * static_cast<std::size_t>(tables_.table_stride),
                                    static_cast<std::size_t>(tables_.table_stride))});
    const std::vector<int> changed(batch.size(), 0);
    reads_.find(batch, changed, {shape_.heads, shape_.kv_heads, shape_.head_dim, works, least_saved_bytes});
    if (reads_.empty()) return false;
    items_there_ = device_array<int>(std::vector<int>{static_cast<int>(reads_.items().size())});
    items_ = device_array<shared_item>({reads_.items().begin(), reads_.items().end()});
    seats_ = device_array<shared_seat>({reads_.seats().begin(), reads_.seats().end()});
    own_ = device_array<own_part>({reads_.own().begin(), reads_.own().end()});
    shared_ = {items_there_.data(), items_.data(), seats_.data(), own_.data()};
    make_workspace();
    return true;
  }
  const shared_reads& reads() const { return reads_; }
  std::int64_t blocks() const { return blocks_; }
  bool in_clusters() const { return !shared_ && decodes_in_clusters(tables_, shape_.heads, layout()); }
  /// From now on the step is sequence `s` alone, its row where it was.
  void leave_alone(int s) {
    alone_ = device_array<int>(std::vector<int>{rows_, 1, 0, 0});
    tables_.counts = alone_.data();
    tables_.sequences = 1;
    tables_.first_row += s;
    tables_.row_count += s;
    tables_.past += s;
    tables_.block_tables += std::int64_t{s} * tables_.table_stride;
  }
  kv_layout layout() const {
    kv_layout kv;
    kv.base = arena_.data();
    kv.layers = layers_;
    kv.kv_heads = shape_.kv_heads;
    kv.head_dim = shape_.head_dim;
    kv.format = format_;
    return kv;
  }
  /// For prefill: where KV is narrow, the call over its bf16 twin, made here.
  attention_call prefill_call(int layer) {
    attention_call wide = call(layer, false);
    if (format_ == kv_format::bf16) return wide;
    wide.kv = {nullptr, 1, shape_.kv_heads, shape_.head_dim};
    if (wide_.size() == 0) {
      wide_ = device_array<std::byte>(static_cast<std::size_t>((blocks_ + 1) * wide.kv.block_bytes()));
      wide_.fill(0xff);
    }
    wide.kv.base = wide_.data();
    widen_kv({&tables_, layout(), layer, wide.kv}, nullptr);
    wide.layer = 0;
    return wide;
  }
  rope_store_call rope_call(int layer) {
    rope_store_call call;
    call.tables = &tables_;
    call.qkv = qkv_.data();
    call.heads = shape_.heads;
    call.layer = layer;
    call.kv = layout();
    call.rope = {plan_.angles, shape_.rotated, shape_.interleaved};
    return call;
  }
  attention_call call(int layer, bool fused) {
    attention_call call;
    call.tables = &tables_;
    call.plan = plan_;
    call.qkv = qkv_.data();
    call.heads = shape_.heads;
    call.scale = scale();
    call.layer = layer;
    call.kv = layout();
    call.rope = {fused ? plan_.angles : nullptr, shape_.rotated, shape_.interleaved};
    call.out = out_.data();
    call.shared = shared_;
    call.workspace = workspace_.data();
    return call;
  }
  std::vector<bf16> out() const { return out_.download(); }
  std::vector<std::byte> arena() const { return arena_.download(); }
  std::vector<int> arrivals() const {
    std::vector<std::byte> all = workspace_.download();
    std::vector<int> counters(most_decode_blocks);
    std::memcpy(counters.data(), all.data(), counters.size() * 4);
    return counters;
  }
  /// Radians a position of a rotated pair.
  double frequency(int pair) const { return host_frequencies_[static_cast<std::size_t>(pair)]; }
  int first_row(int s) const { return first_row_[static_cast<std::size_t>(s)]; }
  const std::vector<sequence_shape>& sequences() const { return sequences_; }

  /// The largest of ||out - reference|| / ||reference|| over (sampled) rows, and how many elements are no numbers.
  double error(const std::vector<bf16>& out, int layer, int rows_checked_each) {
    after_ = arena();
    double worst = 0;
    for (int s = 0; s < static_cast<int>(sequences_.size()); ++s) {
      const int rows = sequences_[static_cast<std::size_t>(s)].rows;
      const int step = std::max(1, rows / rows_checked_each);
      for (int r = 0; r < rows; r += step) worst = std::max(worst, row_error(out, layer, s, r));
      worst = std::max(worst, row_error(out, layer, s, rows - 1));
    }
    return worst;
  }

  /// The same of one row; where KV is narrow, what the step stored is taken as it was at the last call of `error`.
  double row_error(const std::vector<bf16>& out, int layer, int s, int r) const {
    const int D = shape_.head_dim, group = shape_.heads / shape_.kv_heads;
    const int position = sequences_[static_cast<std::size_t>(s)].past + r;
    double off = 0, norm = 0;
    std::vector<double> k(static_cast<std::size_t>(D)), v(static_cast<std::size_t>(D));
    std::vector<std::vector<double>> keys(static_cast<std::size_t>(position) + 1), values(keys.size());
    for (int kv_head = 0; kv_head < shape_.kv_heads; ++kv_head) {
      if (position > 3000 && kv_head != (position + s) % shape_.kv_heads) continue;  // long rows: one KV head of each
      for (int t = 0; t <= position; ++t) {
        if (format_ == kv_format::bf16 || t < sequences_[static_cast<std::size_t>(s)].past) {
          key_value(layer, s, kv_head, t, k, v);
        } else {
          for (int d = 0; d < D; ++d) {
            k[static_cast<std::size_t>(d)] = number(after_, layer, s, 0, kv_head, t, d);
            v[static_cast<std::size_t>(d)] = number(after_, layer, s, 1, kv_head, t, d);
          }
        }
        keys[static_cast<std::size_t>(t)] = k;
        values[static_cast<std::size_t>(t)] = v;
      }
      for (int g = 0; g < group; ++g) {
        const int head = kv_head * group + g;
        const std::vector<double> q = turned(rotated(first_row(s) + r, head, position));
        std::vector<double> weight(keys.size());
        double best = -1e300, sum = 0;
        for (std::size_t t = 0; t < keys.size(); ++t) {
          weight[t] = std::inner_product(q.begin(), q.end(), keys[t].begin(), 0.0) * static_cast<double>(scale());
          best = std::max(best, weight[t]);
        }
        for (double& w : weight) sum += w = std::exp(w - best);
        for (int d = 0; d < D; ++d) {
          double expected = 0;
          for (std::size_t t = 0; t < keys.size(); ++t) expected += weight[t] * values[t][static_cast<std::size_t>(d)];
          expected /= sum;
          const double got = __bfloat162float(
              out[(static_cast<std::size_t>(first_row(s) + r) * static_cast<std::size_t>(shape_.heads) +
                   static_cast<std::size_t>(head)) *
                      static_cast<std::size_t>(D) +
                  static_cast<std::size_t>(d)]);
          if (!std::isfinite(got)) return 1e9;
          off += (got - expected) * (got - expected);
          norm += expected * expected;
        }
      }
    }
    return std::sqrt(off / norm);
  }

  /// K and V of `head` at a position of a sequence. What this step brings: as it should be stored, but not yet narrow.
  void key_value(int layer, int s, int head, int position, std::vector<double>& k, std::vector<double>& v) const {
    const int D = shape_.head_dim;
    const sequence_shape& q = sequences_[static_cast<std::size_t>(s)];
    if (position < q.past) {
      for (int d = 0; d < D; ++d) {
        k[static_cast<std::size_t>(d)] = stored(layer, s, 0, head, position, d);
        v[static_cast<std::size_t>(d)] = stored(layer, s, 1, head, position, d);
      }
      return;
    }
    const int row = first_row(s) + position - q.past;
    k = turned(rotated(row, shape_.heads + head, position));
    for (int d = 0; d < D; ++d) {
      v[static_cast<std::size_t>(d)] = input(row, shape_.heads + shape_.kv_heads + head, d);
    }
  }
  /// A number of the arena's bytes.
  double number(const std::vector<std::byte>& arena, int layer, int s, int value, int head, int position, int d) const {
    const std::size_t tile = tile_index(layer, s, value, head, position);
    const auto bf16_at = [&](std::size_t at) {
      std::uint16_t bits;
      std::memcpy(&bits, &arena[at], 2);
      return static_cast<double>(__bfloat162float(reinterpret_cast<const bf16&>(bits)));
    };
    const int token = position % 16;
    if (format_ == kv_format::bf16)
      return bf16_at(tile + static_cast<std::size_t>(kv_layout::chunk_offset(token, d / 8) + d % 8 * 2));
    return narrow_number(format_, arena[tile + static_cast<std::size_t>(kv_layout::byte_offset(value, token, d))]) *
           bf16_at(tile + static_cast<std::size_t>(kv_layout::scale_offset(shape_.head_dim, token)));
  }
  std::size_t tile_index(int layer, int s, int value, int head, int position) const {
    const kv_layout kv = layout();
    const int block = host_tables_[static_cast<std::size_t>(s) * static_cast<std::size_t>(tables_.table_stride) +
                                   static_cast<std::size_t>(position / 16)];
    return static_cast<std::size_t>(kv.tile(block, layer, head) - kv.base + value * kv.value_offset());
  }

  step_tables tables_;
  step_plan plan_;

private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  double input(int row, int head, int d) const {
    return __bfloat162float(host_qkv_[static_cast<std::size_t>(row) * static_cast<std::size_t>(row_width()) +
                                      static_cast<std::size_t>(head * shape_.head_dim + d)]);
  }
  double stored(int layer, int s, int value, int head, int position, int d) const {
    return number(host_arena_, layer, s, value, head, position, d);
  }
  static double as_bf16(double x) { return __bfloat162float(__float2bfloat16(static_cast<float>(x))); }
  /// Rounded as rows are, and turned where K is.
  std::vector<double> turned(std::vector<double> head) const {
    for (double& x : head) x = as_bf16(x);
    if (format_ == kv_format::bf16) return head;
    head = turned_head(head, shape_.interleaved, shape_.rotated);
    for (double& x : head) x = as_bf16(x);
    return head;
  }

  std::vector<double> rotated(int row, int head, int position) const {
    const int D = shape_.head_dim;
    std::vector<double> x(static_cast<std::size_t>(D));
    for (int d = 0; d < D; ++d) x[static_cast<std::size_t>(d)] = input(row, head, d);
    for (int i = 0; i < shape_.rotated / 2; ++i) {
      const double angle = position * host_frequencies_[static_cast<std::size_t>(i)];
      const auto a = static_cast<std::size_t>(shape_.interleaved ? 2 * i : i),
                 b = static_cast<std::size_t>(shape_.interleaved ? 2 * i + 1 : i + shape_.rotated / 2);
      const double u = x[a], w = x[b];
      x[a] = u * std::cos(angle) - w * std::sin(angle);
      x[b] = u * std::sin(angle) + w * std::cos(angle);
    }
    return x;
  }

  void make_tables() {
    std::vector<int> row_sequence, row_position, count, past;
    int longest = 0, tiles = 0;
    blocks_ = 0;
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      const sequence_shape& q = sequences_[s];
      first_row_.push_back(rows_);
      count.push_back(q.rows);
      past.push_back(q.past);
      for (int r = 0; r < q.rows; ++r) {
        row_sequence.push_back(static_cast<int>(s));
        row_position.push_back(q.past + r);
      }
      rows_ += q.rows;
      longest = std::max(longest, q.past + q.rows);
      blocks_ += (q.past + q.rows + 15) / 16 - q.shared;
      tiles += q.rows / prefill_tile_rows() + 1;
    }
    const int stride = (longest + 15) / 16;
    std::vector<int> order(static_cast<std::size_t>(blocks_) + 1);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin() + 1, order.end(), random_);
    host_tables_.assign(sequences_.size() * static_cast<std::size_t>(stride), 0);
    std::size_t next = 1;
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      int* const table = &host_tables_[s * static_cast<std::size_t>(stride)];
      const int shared = sequences_[s].shared;
      if (shared > 0)
        std::copy_n(&host_tables_[static_cast<std::size_t>(sequences_[s].parent) * static_cast<std::size_t>(stride)],
                    shared, table);
      for (int b = shared; b < (sequences_[s].past + sequences_[s].rows + 15) / 16; ++b) table[b] = order[next++];
    }
    std::vector<int> all{rows_, static_cast<int>(sequences_.size()), 0, 0};
    const auto append = [&](const std::vector<int>& part) {
      const std::size_t at = all.size();
      all.insert(all.end(), part.begin(), part.end());
      return at;
    };
    const auto at_sequence = append(row_sequence), at_position = append(row_position), at_first = append(first_row_),
               at_count = append(count), at_past = append(past), at_tables = append(host_tables_);
    ints_ = device_array<int>(all);
    tables_.rows = rows_;
    tables_.sequences = static_cast<int>(sequences_.size());
    tables_.longest = longest;
    tables_.counts = ints_.data();
    tables_.row_sequence = ints_.data() + at_sequence;
    tables_.row_position = ints_.data() + at_position;
    tables_.first_row = ints_.data() + at_first;
    tables_.row_count = ints_.data() + at_count;
    tables_.past = ints_.data() + at_past;
    tables_.block_tables = ints_.data() + at_tables;
    tables_.table_stride = stride;

    host_frequencies_.resize(static_cast<std::size_t>(shape_.rotated / 2));
    for (std::size_t i = 0; i < host_frequencies_.size(); ++i)
      host_frequencies_[i] = std::pow(500000.0, -2.0 * static_cast<double>(i) / shape_.rotated);
    frequencies_ = device_array<double>(host_frequencies_);
    angles_ = device_array<float2>(static_cast<std::size_t>(rows_ * shape_.rotated / 2));
    decode_ = device_array<decode_plan>(1);
    tiles_ =
        device_array<prefill_tile>(static_cast<std::size_t>(most_tiles(tables_.sequences, rows_, prefill_tile_rows())));
    counts_ = device_array<int>(2);
    plan_ = {angles_.data(), decode_.data(), tiles_.data(), counts_.data()};
    make_workspace();
  }
  /// Its arrivals zero, the rest no numbers.
  void make_workspace() {
    std::int64_t results = 0;
    for (const own_part& own : reads_.own()) results += own.results;
    std::vector<std::byte> bytes(static_cast<std::size_t>(decode_workspace_bytes(results, shape_.heads, layout())),
                                 std::byte{0xff});
    std::fill_n(bytes.begin(), most_decode_blocks * 4, std::byte{});
    workspace_ = device_array<std::byte>(bytes);
  }

  void make_arena() {
    std::normal_distribution<float> normal;
    host_qkv_.resize(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(row_width()));
    for (bf16& x : host_qkv_) x = __float2bfloat16(normal(random_));
    host_arena_.assign(static_cast<std::size_t>((blocks_ + 1) * layout().block_bytes()),
                       std::byte{0xff});  // bf16, e4m3: no number
    std::vector<bf16> noise(1 << 16);
    for (bf16& x : noise) x = __float2bfloat16(normal(random_));
    std::vector<std::byte> narrow_noise(1 << 16);
    for (std::byte& x : narrow_noise) {
      const float size = normal(random_);
      x = format_ == kv_format::fp8
              ? static_cast<std::byte>(__nv_cvt_float_to_fp8(size * 100, __NV_SATFINITE, __NV_E4M3))
              : static_cast<std::byte>(128 + std::clamp(static_cast<int>(std::lround(size * 40)), -127, 127));
    }
    for (int layer = 0; layer < layers_; ++layer)
      for (int s = 0; s < static_cast<int>(sequences_.size()); ++s)
        for (int value = 0; value < 2; ++value)
          for (int head = 0; head < shape_.kv_heads; ++head)
            for (int t = 0; t < sequences_[static_cast<std::size_t>(s)].past; ++t) {
              std::size_t from = random_() % (noise.size() - 256);
              std::byte* const tile = &host_arena_[tile_index(layer, s, value, head, t)];
              if (format_ == kv_format::bf16) {
                for (int d = 0; d < shape_.head_dim; d += 8, from += 8)
                  std::memcpy(tile + kv_layout::chunk_offset(t % 16, d / 8), &noise[from], 16);
                continue;
              }
              for (int d = 0; d < shape_.head_dim; ++d)
                tile[kv_layout::byte_offset(value, t % 16, d)] = narrow_noise[from++];
              // Values of very different sizes: their sums are kept in units of the largest so far.
              const float one = format_ == kv_format::fp8 ? 0.01f : 0.025f;
              const bf16 scale = __float2bfloat16(value ? std::ldexp(one, static_cast<int>(random_() % 9) - 4) : one);
              std::memcpy(tile + kv_layout::scale_offset(shape_.head_dim, t % 16), &scale, 2);
            }
    arena_ = device_array<std::byte>(host_arena_.size());
    make_rows();
    reset();
  }
  void make_rows() {
    qkv_ = device_array<bf16>(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(row_width()));
    out_ =
        device_array<bf16>(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(shape_.heads * shape_.head_dim));
  }

  head_shape shape_;
  std::vector<sequence_shape> sequences_;
  std::mt19937 random_;
  int layers_, rows_ = 0, blocks_ = 0;
  kv_format format_;
  std::vector<int> first_row_, host_tables_;
  std::vector<double> host_frequencies_;
  std::vector<bf16> host_qkv_;
  std::vector<std::byte> host_arena_, after_;  // before the step, after it
  device_array<int> ints_, counts_, alone_;
  device_array<double> frequencies_;
  device_array<float2> angles_;
  device_array<decode_plan> decode_;
  shared_reads reads_;
  shared_tables shared_;
  device_array<int> items_there_;
  device_array<shared_item> items_;
  device_array<shared_seat> seats_;
  device_array<own_part> own_;
  device_array<prefill_tile> tiles_;
  device_array<std::byte> workspace_, arena_, wide_;
  device_array<bf16> qkv_, out_;
};

}  // namespace troupe::kernels::cuda
