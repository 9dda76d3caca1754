// Each op as the kernels that do it. Knows no step but the tables of the one in hand.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/rows.hpp"
#include "kernels/cuda/stream_lane.hpp"
#include "kernels/cuda/wide_kv.hpp"

namespace troupe::kernels::cuda {
namespace {

using memory::dtype;

template <class T>
T* elements(const tensor_view& of) {
  return static_cast<T*>(of.data);
}
std::int64_t stride_of(const tensor_view& of) { return of.stride_bytes / memory::info(of.type).block_bytes; }

/// A table of its own, or the rows of a matrix of floats, which lie as they are.
table_rows rows_of(const cuda_matrix& w) {
  if (w.table) return {w.table->bytes->as<const unsigned char>(), w.table->type, w.rows, w.cols, w.table->stride};
  const device_matrix& only = *w.pieces.front();
  const dtype type = only.type == weight_type::f16 ? dtype::f16 : dtype::bf16;
  return {only.data.as<const unsigned char>(), type, w.rows, w.cols, only.k_padded * 2};
}

product product_into(const tensor_view& out) {
  product p;
  p.rows = static_cast<std::int32_t>(out.rows);
  p.out = out.data;
  p.out_stride = stride_of(out);
  p.output = out.type == dtype::f32 ? product_output::f32 : product_output::bf16;
  return p;
}

product given(product p, const tensor_view& x) {
  p.x = elements<const bf16>(x);
  p.x_stride = stride_of(x);
  return p;
}

product normed(product p, const tensor_view& x, const tensor_view& weight, float eps) {
  p.hidden = elements<const float>(x);
  p.x_stride = stride_of(x);
  p.gain = elements<const float>(weight);
  p.eps = eps;
  return p;
}

}  // namespace

/// The first failure of a step's ops; begin_step answers with it.
void stream_lane::note(result<void> outcome) {
  if (!outcome && !op_error_) op_error_ = std::move(outcome).why();
}

void stream_lane::multiply(const packed_matrix& w, product what) {
  const bool wide = what.output == product_output::f32 || what.output == product_output::add_f32;
  for (const auto& piece : static_cast<const cuda_matrix&>(w).pieces) {
    what.w = piece.get();
    if (!held_.take(what)) {
      release_layers();
      note(profiling_ ? products_->linear(what, stream_.get()) : products_->chain(what, stream_.get()));
    }
    what.out = static_cast<std::byte*>(what.out) + piece->rows * (wide ? 4 : 2);
  }
}

/// Layers that are held back go to the stream: as one kernel, or op by op.
void stream_lane::release_layers() {
  if (held_.empty()) return;
  const auto needed = held_.resident_bytes_needed();
  if (!needed) {
    return held_.release([&](const auto& op) {
      if constexpr (std::is_same_v<std::decay_t<decltype(op)>, product>) {
        note(products_->chain(op, stream_.get()));
      } else {
        settle_products();
        attend_decode(op, stream_.get());
      }
    });
  }
  settle_products();
  if (resident_room_.bytes() < *needed) {
    unprepared_ = capturing_;
    if (capturing_) return;
    if (auto r = check(cudaStreamSynchronize(stream_.get()), "waiting for steps"); !r) return note(std::move(r));
    auto made = allocate_device(*needed);
    if (!made) return note(made.why());
    resident_room_ = *std::move(made);
    note(check(cudaMemsetAsync(resident_room_.data(), 0, static_cast<std::size_t>(*needed), stream_.get()),
               "clearing a workspace"));
    ++epoch_;
  }
  held_.run(resident_room_, stream_.get());
}

/// The product that waits for its reader goes to the stream.
void stream_lane::settle_products() { note(products_->settle(stream_.get())); }

void stream_lane::settle_layers() {
  release_layers();
  settle_products();
}

void stream_lane::embed(const packed_matrix& table, std::span<const std::int32_t>, tensor_view out) {
  settle_products();
  cuda::embed(rows_of(static_cast<const cuda_matrix&>(table)), tables_, elements<float>(out), stride_of(out),
              stream_.get());
  mark("embed");
}

void stream_lane::rms_norm(tensor_view x, tensor_view weight, float eps, tensor_view out) {
  settle_layers();
  cuda::rms_norm(elements<float>(x), stride_of(x), elements<float>(weight), eps, x.rows, x.cols, elements<bf16>(out),
                 stride_of(out), stream_.get());
  mark("norm");
}

void stream_lane::linear(const packed_matrix& w, tensor_view x, tensor_view out) {
  multiply(w, given(product_into(out), x));
  mark("head");
}

void stream_lane::linear_add(const packed_matrix& w, tensor_view x, tensor_view out) {
  product p = given(product_into(out), x);
  p.output = product_output::add_f32;
  multiply(w, p);
  mark(x.cols > out.cols ? "down" : "attention out");
}

void stream_lane::norm_linear(tensor_view x, tensor_view weight, float eps, const packed_matrix& w, tensor_view,
                              tensor_view out) {
  multiply(w, normed(product_into(out), x, weight, eps));
  mark("qkv");
}

void stream_lane::gated_mlp(tensor_view x, tensor_view weight, float eps, const packed_matrix& w,
                            const packed_matrix& down, const mlp_scratch& scratch) {
  const auto& last = static_cast<const cuda_matrix&>(down);
  if (last.pieces.size() == 1 && products_->takes_gated(*last.pieces.front(), static_cast<std::int32_t>(x.rows))) {
    multiply(w, normed(product_into(scratch.gate_up), x, weight, eps));
    mark("gate up");
    product p = given(product_into(x), scratch.gate_up);
    p.output = product_output::add_f32;
    p.gated = true;
    multiply(down, p);
    return mark("down");
  }
  product gate = normed(product_into(scratch.gated), x, weight, eps);
  gate.output = product_output::silu_bf16;
  multiply(w, gate);
  mark("gate up");
  linear_add(down, scratch.gated, x);
}

void stream_lane::keep_rows(tensor_view x, std::span<const std::int32_t> rows) {
  settle_layers();
  const auto wanted = static_cast<std::int64_t>(rows.size()), bytes = memory::row_size(x.type, x.cols);
  for (std::int64_t to = 0, count = 1; to < wanted; to += count, count = 1) {
    const std::int64_t from = rows[static_cast<std::size_t>(to)];
    if (from == to) continue;
    // Neighbours go together, but no copy reads what it writes.
    while (count < from - to && to + count < wanted && rows[static_cast<std::size_t>(to + count)] == from + count)
      ++count;
    note(check(cudaMemcpyAsync(x.row_bytes(to), x.row_bytes(from),
                               static_cast<std::size_t>((count - 1) * x.stride_bytes + bytes), cudaMemcpyDeviceToDevice,
                               stream_.get()),
               "keeping rows"));
  }
  mark("keep rows");
}

void stream_lane::silu_mul(tensor_view gate_up, tensor_view out) {
  settle_layers();
  cuda::silu_mul(elements<bf16>(gate_up), stride_of(gate_up), out.rows, out.cols, elements<bf16>(out), stride_of(out),
                 stream_.get());
}

/// The room for this rope and arena, made where it is not there; not while capturing: then this step is not recorded.
bool stream_lane::room_for(const rope_shape& rope, std::int32_t heads, const kv_arena& kv) {
  const step_limits& limits = space_->buffers.limits();
  room_shape wanted{rope.base,   rope.dims,         rope.interleaved,     {rope.factors.begin(), rope.factors.end()},
                    heads,       kv.shape.kv_heads, kv.shape.head_dim,    kv_format_,
                    limits.rows, limits.sequences,  room_.shape().results};
  if (results_ > wanted.results) wanted.results = results_ + results_ / 2;  // sequences grow
  if (room_.serves(wanted)) return true;
  unprepared_ = capturing_;
  if (capturing_) return false;
  if (auto r = check(cudaStreamSynchronize(stream_.get()), "waiting for steps"); !r) return note(std::move(r)), false;
  auto made = attention_room::create(std::move(wanted), stream_.get());
  if (!made) return note(made.why()), false;
  room_ = *std::move(made);
  const bool shares = !deterministic_ && reads_shared(static_cast<const cuda_kv&>(kv).layout(), heads);
  shareable_ = {heads, kv.shape.kv_heads, kv.shape.head_dim, shares ? decode_blocks() : 0,
                shareable_.least_saved_bytes};
  ++epoch_;
  return true;
}

void stream_lane::rope_store(tensor_view qkv, std::int32_t heads, const rope_shape& rope, std::int32_t layer,
                             kv_arena& kv, std::span<const sequence_rows>) {
  settle_products();
  if (!planned_) {
    if (!room_for(rope, heads, kv)) return;
    room_.plan_on(tables_, shared_, deterministic_ ? 1 : 2, stream_.get());
    planned_ = true;
    mark("plan");
  }
  if (tables_.one_row_each && room_.fuses_rope() && !deterministic_) return;  // attention does it
  cuda::rope_store(
      {&tables_, elements<bf16>(qkv), heads, layer, static_cast<const cuda_kv&>(kv).layout(), room_.turn()},
      stream_.get());
  mark("rope");
}

void stream_lane::attention(tensor_view qkv, std::int32_t heads, float scale, std::int32_t layer, const kv_arena& kv,
                            std::span<const sequence_rows> batch, tensor_view out) {
  if (!planned_) return;
  attention_call call;
  call.tables = &tables_;
  call.plan = room_.plan();
  call.qkv = elements<const bf16>(qkv);
  call.heads = heads;
  call.scale = scale;
  call.layer = layer;
  call.kv = static_cast<const cuda_kv&>(kv).layout();
  call.out = elements<bf16>(out);
  call.shared = shared_;
  call.workspace = room_.workspace();
  if (tables_.one_row_each && !deterministic_) {
    if (room_.fuses_rope()) call.rope = room_.turn();
    if (held_.take(call)) return;
    settle_layers();
    attend_decode(call, stream_.get());
    return mark("attention");
  }
  settle_products();
  const auto prefill = [&] {
    attention_call wide = call;
    if (call.kv.format != kv_format::bf16) {
      wide.kv = static_cast<const cuda_kv&>(kv).wide_layout();
      wide.layer = 0;
      widen_kv({&tables_, call.kv, layer, wide.kv, deterministic_ ? 1 : 2}, stream_.get());
    }
    attend_prefill(wide, stream_.get());
  };
  if (deterministic_) {  // every row as one of a prompt, its keys never split: tile by tile from position 0
    prefill();
    return mark("attention");
  }
  const auto single = [](const sequence_rows& one) { return one.rows == 1; };
  for (const sequence_rows& one : batch)
    if (!single(one)) {
      call.tiles += (one.rows + prefill_tile_rows() - 1) / prefill_tile_rows();
      call.longest = std::max(call.longest, one.past + one.rows);
    }
  call.split_workspace = room_.split_workspace();
  if (call.tiles > 0) prefill();
  if (std::any_of(batch.begin(), batch.end(), single)) attend_decode(call, stream_.get());
  mark("attention");
}

void stream_lane::sample(tensor_view logits, std::span<const sampling_row>, std::span<sampled>) {
  sampled_logits_ = logits;
  settle_products();
  if (host_sampling_) return;
  sample_call call = space_->buffers.sampling(tables_);
  call.logits = elements<const float>(logits);
  call.stride = stride_of(logits);
  call.vocab = static_cast<std::int32_t>(logits.cols);
  cuda::sample(call, stream_.get());
  mark("sample");
}

}  // namespace troupe::kernels::cuda
