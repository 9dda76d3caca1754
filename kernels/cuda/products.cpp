// Chooses how a product is computed: few rows stream the weights, more go to the library after their norm and before
// their silu as kernels of their own. Knows no model.
#include "kernels/cuda/products.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/cuda/library_rows.hpp"

namespace troupe::kernels::cuda {
namespace {

result<void> grow(device_buffer& buffer, std::int64_t bytes) {
  if (buffer.bytes() >= bytes) return {};
  auto larger = allocate_device(bytes);
  if (!larger) return larger.why();
  buffer = std::move(*larger);
  return {};
}

constexpr std::int32_t wide_rows = 64;  // to here the wgmma kernel outruns the library for fp8

/// To here the few-rows kernel is the fastest (bench/cuda_products.cu).
std::int32_t few_rows(const device_matrix& w) {
  return std::min(small_product_rows(w), w.type == weight_type::q4_0 ? 3 : 2);
}

/// bf16 to which the wgmma kernel brings x the sooner. More than 64 rows gain where no product of a layer is the
/// library's, as in models of a width to 1,024 (0.6B: 7 % at 128, 2 % at 256); beside its products they lose (1B: 5 %
/// at 256).
bool outruns_library(const product& p) {
  if (!is_small(*p.w)) return p.rows <= narrow_rows && !wide_shares_much(p);
  return p.rows <= (std::min(p.w->rows, p.w->cols) <= 1024 ? fused_rows : wide_rows);
}

constexpr std::int64_t swept_bytes = 128 << 20;

library_shape shape_of(const dense_product& d) { return {d.inputs, d.f32_out, d.n, d.k, library_range(d.rows)}; }

bool dense_type(weight_type t) { return t == weight_type::bf16 || t == weight_type::f16 || t == weight_type::fp8; }

}  // namespace

result<std::unique_ptr<products>> products::make(bool one_order) {
  auto made = std::make_unique<products>();
  made->one_order_ = one_order;
  if (auto library = load_cublas_lt()) made->library_ = std::move(*library);
  return result<std::unique_ptr<products>>(std::move(made));
}

result<void> products::reserve(std::int32_t rows, const device_matrix& w) {
  if (rows <= few_rows(w) && !one_order_) return {};
  // Where they are fused, scales and squares lie behind x.
  const std::int64_t x_bytes = rows * w.k_padded * 2 + (narrow_rows + fused_rows) * (w.k_padded / 64) * 4;
  for (device_buffer& prepared : prepared_)
    if (auto done = grow(prepared, x_bytes); !done) return done;
  if (!dense_type(w.type)) return {};
  if (auto done = grow(scales_, rows * 4L); !done) return done;
  return grow(wide_, rows * w.rows * (w.type == weight_type::f16 ? 4 : 2));
}

bool products::takes_gated(const device_matrix& w, std::int32_t rows) const {
  return library_ && !one_order_ && w.type == weight_type::fp8 && rows > wide_rows && w.k_padded <= most_gated;
}

/// Among a few rows sums are taken in another order than among more.
bool products::may_fuse(const product& p) const {
  if (one_order_) return false;
  return p.w->type == weight_type::bf16 ? p.rows <= fused_rows : p.w->type == weight_type::fp8 && p.rows <= narrow_rows;
}

/// By wide_product; else by the library, or a few rows at a time.
bool products::takes_wide(const product& p) const {
  if (p.w->type == weight_type::f16 || !wide_serves(p)) return false;
  if (one_order_) return true;
  if (p.rows <= few_rows(*p.w)) return false;
  if (const auto way = chosen(p)) return *way == own_way;
  if (p.w->type == weight_type::bf16 && library_) return outruns_library(p);
  return p.rows <= wide_rows || !library_ || !dense_type(p.w->type);
}

/// More rows than a few, of types that the library multiplies, and not where a chain has no kernel between two
/// products: one measured alone would leave it.
bool products::may_choose(const product& p) const {
  if (!library_ || one_order_ || p.rows <= narrow_rows || !dense_type(p.w->type)) return false;
  return p.w->type != weight_type::bf16 || !outruns_library(p);
}

std::optional<library_way> products::chosen(const product& p) const {
  const library_choices* const from = tuned_ ? tuned_ : choices_.get();
  if (!from || !may_choose(p)) return std::nullopt;
  const auto way = from->way(shape_of(described(p)));
  if (way == own_way && (p.rows > wide_rows || p.w->type == weight_type::f16 || !wide_serves(p))) return std::nullopt;
  return way;
}

result<void> products::tune(library_choices* into) {
  tuned_ = into;
  swept_ = {};
  return into ? grow(swept_, swept_bytes) : result<void>();
}

/// The median of five, the cache swept before each.
result<void> products::time_ways(const product& p, cudaStream_t on) {
  cudaStreamCaptureStatus captured{};
  if (auto r = check(cudaStreamIsCapturing(on, &captured), "tuning"); !r) return r;
  if (!may_choose(p) || captured != cudaStreamCaptureStatusNone) return {};
  const library_shape shape = shape_of(described(p));
  if (tuned_->way(shape)) return {};
  const auto begin = make_event(true), end = make_event(true);
  if (!begin || !end) return !begin ? begin.why() : end.why();
  const auto time = [&](library_way way) -> result<timed_way> {
    std::vector<float> taken;
    for (int i = 0; i < 6; ++i) {
      if (auto r = check(cudaMemsetAsync(swept_.data(), i, swept_bytes, on), "tuning"); !r) return r.why();
      if (auto r = check(cudaEventRecord(begin->get(), on), "tuning"); !r) return r.why();
      if (way == own_way) run_wide({p, {}}, {}, on);
      else if (auto r = dense(p, way, on); !r) return timed_way{way, 0};
      if (auto r = check(cudaEventRecord(end->get(), on), "tuning"); !r) return r.why();
      if (auto r = check(cudaEventSynchronize(end->get()), "tuning"); !r) return r.why();
      float milliseconds = 0;
      if (auto r = check(cudaEventElapsedTime(&milliseconds, begin->get(), end->get()), "tuning"); !r) return r.why();
      if (i > 0) taken.push_back(milliseconds);  // the first loads the kernel
    }
    std::nth_element(taken.begin(), taken.begin() + 2, taken.end());
    return timed_way{way, std::llround(double{taken[2]} * 1e6)};
  };
  dense_product asked = described(p);
  asked.w_scale = p.w->scales.as<const float>();
  asked.x_scale = scales_.as<const float>();
  const auto count = library_->ways(asked);
  if (!count) return count.why();
  std::vector<library_way> ways;
  if (p.rows <= wide_rows && p.w->type != weight_type::f16 && wide_serves(p)) ways.push_back(own_way);
  for (library_way way = 0; way < *count; ++way) ways.push_back(way);
  const library_way usual = takes_wide(p) ? own_way : usual_way;
  timed_way usual_time, best;
  for (const library_way way : ways) {
    const auto one = time(way);
    if (!one) return one.why();
    if (way == usual) usual_time = *one;
    if (one->nanoseconds > 0 && (best.nanoseconds == 0 || one->nanoseconds < best.nanoseconds)) best = *one;
  }
  tuned_->choose(shape, usual_time, best);
  return {};
}

result<void> products::linear(const product& p, cudaStream_t on) {
  if (auto done = settle(on); !done) return done;
  return run({p, {}}, {}, on);
}

result<void> products::chain(const product& p, cudaStream_t on) {
  held now{p, {}};
  if (held_) {
    const held before = *std::exchange(held_, {});
    const wide_next next = written_for(p, before);
    if (auto done = run(before, next, on); !done) return done;
    if (next.data) now.x = {next.data, next.stride, next.scales, p.x ? nullptr : next.squares};
  }
  const bool read_next = p.output == product_output::add_f32 || p.output == product_output::silu_bf16;
  if (!read_next || !may_fuse(p) || !takes_wide(p)) return run(now, {}, on);
  held_ = now;
  return {};
}

result<void> products::settle(cudaStream_t on) {
  if (!held_) return {};
  return run(*std::exchange(held_, {}), {}, on);
}

/// Where the reader's x goes: not where `taken` is.
wide_next products::room_for(const product& reader, const void* taken) {
  const device_matrix& w = *reader.w;
  wide_next next;
  next.bytes = w.type == weight_type::fp8;
  next.stride = next.bytes ? w.k_padded : w.cols;
  std::byte* const at = prepared_[prepared_[0].data() == taken].as<std::byte>();
  next.data = at;
  next.scales = reinterpret_cast<float*>(at + reader.rows * w.k_padded * 2);
  next.squares = next.scales + narrow_rows * (w.k_padded / 64);
  next.squares_count = static_cast<int>((w.cols + 63) / 64);
  next.gain = reader.x ? nullptr : reader.gain;
  return next;
}

/// The reader's x where `writer` can write it, else nothing.
wide_next products::written_for(const product& reader, const held& by) {
  const product& writer = by.what;
  if (reader.rows != writer.rows || !may_fuse(reader) || !takes_wide(reader)) return {};
  const bool normed = !reader.x && writer.output == product_output::add_f32 && reader.hidden == writer.out &&
                      reader.w->cols == writer.w->rows && reader.x_stride == writer.out_stride;
  const bool gated = reader.x && writer.output == product_output::silu_bf16 && reader.x == writer.out &&
                     reader.w->cols * 2 == writer.w->rows && reader.w->type == weight_type::fp8;
  // Columns that pad a row are nobody's to write.
  if (!(normed || gated) || (reader.w->type == weight_type::fp8 && reader.w->k_padded != reader.w->cols)) return {};
  return room_for(reader, by.x.data);
}

void products::run_wide(const held& one, const wide_next& next, cudaStream_t on) {
  const product& p = one.what;
  wide_input x = one.x;
  const bool bytes = p.w->type == weight_type::fp8;
  const int k = static_cast<int>(p.w->cols), k_padded = static_cast<int>(p.w->k_padded);
  if (!x.data && may_fuse(p) && (!p.x || bytes)) {
    const wide_next to = room_for(p, next.data);
    prepare_blocks(p, to, on);
    x = {to.data, to.stride, to.scales, p.x ? nullptr : to.squares};
  } else if (!x.data && bytes) {
    x = {prepared_[0].data(), k_padded, scales_.as<const float>(), nullptr};
    prepare_rows(p, k, k_padded, prepared_[0].data(), scales_.as<float>(), row_form::fp8, on);
  } else if (!x.data && !p.x) {
    x = {prepared_[0].data(), k, nullptr, nullptr};
    prepare_rows(p, k, k, prepared_[0].data(), nullptr, row_form::bf16, on);
  } else if (!x.data) {
    x = {p.x, p.x_stride, nullptr, nullptr};
  }
  wide_product(p, x, on, next, 0, one_order_);
}

result<void> products::run(const held& one, const wide_next& next, cudaStream_t on) {
  const product& p = one.what;
  const std::int32_t most = one_order_ ? small_product_rows(*p.w) : few_rows(*p.w);
  if (tuned_)
    if (auto done = time_ways(p, on); !done) return done;
  if (takes_wide(p)) {
    run_wide(one, next, on);
    return {};
  }
  if (!one_order_ && p.rows > most && library_ && dense_type(p.w->type))
    return dense(p, chosen(p).value_or(usual_way), on);
  product some = p;
  const std::int64_t out_bytes = p.output == product_output::f32 || p.output == product_output::add_f32 ? 4 : 2;
  for (std::int32_t first = 0; first < p.rows; first += most) {
    some.rows = std::min(most, p.rows - first);
    if (p.x) some.x = p.x + first * p.x_stride;
    else some.hidden = p.hidden + first * p.x_stride;
    some.out = static_cast<std::byte*>(p.out) + first * p.out_stride * out_bytes;
    small_product(some, on);
  }
  return {};
}

/// All but the addresses.
dense_product products::described(const product& p) const {
  const device_matrix& w = *p.w;
  const bool as_given = p.x && w.type == weight_type::bf16;
  dense_product d;
  d.w_stride = w.k_padded;
  d.n = static_cast<std::int32_t>(w.rows);
  d.k = static_cast<std::int32_t>(as_given ? w.cols : w.k_padded);
  d.x_stride = as_given ? p.x_stride : w.k_padded;
  d.rows = p.rows;
  d.inputs = w.type == weight_type::fp8   ? dense_product::element::fp8
             : w.type == weight_type::f16 ? dense_product::element::f16
                                          : dense_product::element::bf16;
  const bool finish = w.type == weight_type::f16, silu = p.output == product_output::silu_bf16;
  d.f32_out = finish || p.output == product_output::f32 || p.output == product_output::add_f32;
  d.add = !finish && p.output == product_output::add_f32;
  d.out_stride = silu || finish ? w.rows : p.out_stride;
  return d;
}

result<void> products::dense(const product& p, library_way way, cudaStream_t on) {
  const device_matrix& w = *p.w;
  const int k = static_cast<int>(w.cols), k_padded = static_cast<int>(w.k_padded);
  dense_product d = described(p);
  d.way = way;
  d.w = w.data.data();
  d.w_scale = w.scales.as<const float>();
  if (p.x && w.type == weight_type::bf16) {
    d.x = p.x;
  } else {
    const row_form into = w.type == weight_type::fp8   ? row_form::fp8
                          : w.type == weight_type::f16 ? row_form::f16
                                                       : row_form::bf16;
    if (p.gated) prepare_gated_rows(p, k, k_padded, prepared_[0].data(), scales_.as<float>(), on);
    else prepare_rows(p, k, k_padded, prepared_[0].data(), scales_.as<float>(), into, on);
    d.x = prepared_[0].data();
    d.x_scale = scales_.as<const float>();
  }
  const bool silu = p.output == product_output::silu_bf16, finish = w.type == weight_type::f16;
  d.out = silu || finish ? wide_.data() : p.out;
  if (auto done = library_->multiply(d, on); !done) return done;
  if (finish) finish_f16_rows(wide_.as<const float>(), scales_.as<const float>(), p, d.n, on);
  else if (silu) silu_rows(wide_.as<const bf16>(), static_cast<bf16*>(p.out), p.rows, d.n / 2, p.out_stride, on);
  return {};
}

}  // namespace troupe::kernels::cuda
