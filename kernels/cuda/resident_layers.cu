// The launch of the resident kernel: which shapes it takes, its memory, its arguments.
#include "kernels/cuda/resident_block.cuh"

#include <algorithm>

namespace troupe::kernels::cuda {
namespace {

using resident::op_count;
using resident::op_index;

const device_matrix* matrix_of(const resident_layer& layer, int op) {
  switch (op) {
    case op_index::qkv_op: return layer.qkv;
    case op_index::output_op: return layer.output;
    case op_index::gate_op: return layer.gate_up;
    default: return layer.down;
  }
}

int columns_of(const device_matrix& w) { return w.type == weight_type::bf16 ? 64 : 128; }

int log_parts(const device_matrix& w) {
  const auto groups = w.k_padded / columns_of(w);
  int log = resident::log2_warps;
  while (1 << log > groups) --log;
  return log;
}

/// Columns of one warp, in one op and in the op where they are most.
int columns_a_warp(const device_matrix& w) {
  const int parts = 1 << log_parts(w), groups = static_cast<int>(w.k_padded) / columns_of(w);
  return (groups + parts - 1) / parts * columns_of(w);
}
int most_columns(const resident_layer& layer) {
  int most = 0;
  for (int op = 0; op < op_count; ++op) most = std::max(most, columns_a_warp(*matrix_of(layer, op)));
  return most;
}

bool alike(const device_matrix& a, const device_matrix& b) {
  return a.type == b.type && a.rows == b.rows && a.cols == b.cols;
}

struct device_limits_of {
  int processors = 0, shared = 0, major = 0;
  device_limits_of() {
    int device = 0;
    static_cast<void>(cudaGetDevice(&device));
    static_cast<void>(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    static_cast<void>(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    static_cast<void>(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  }
};

template <class F, int Depth>
int bytes_of(const resident_call& call) {
  return resident::shared_bytes<F, Depth, 128>(call.attention.tables->rows, most_columns(call.layers[0]),
                                               static_cast<int>(call.layers.size()));
}

/// Calls use with the format of the weights and how many groups are in flight, the more of two where they fit; false:
/// no such kernel.
template <class Use>
bool with_format(const resident_call& call, int room, Use use) {
  const auto deepest = [&]<class F, int Most, int Less>() {
    if (bytes_of<F, Most>(call) <= room) return use.template operator()<F, Most>();
    return bytes_of<F, Less>(call) <= room && use.template operator()<F, Less>();
  };
  switch (call.layers[0].qkv->type) {
    case weight_type::bf16: return deepest.template operator()<bf16_format, 4, 3>();
    case weight_type::fp8: return deepest.template operator()<fp8_format, 4, 3>();
    case weight_type::q8_0: return deepest.template operator()<q8_0_format, 3, 2>();
    case weight_type::q4_0: return deepest.template operator()<q4_0_format, 6, 4>();
    default: return false;
  }
}

constexpr std::int64_t header_bytes = 256;  // resident::arguments::turns
std::int64_t words(std::int64_t count) { return (count * 8 + 255) / 256 * 256; }

}  // namespace

std::int64_t resident_bytes(const resident_layer& like, std::int32_t rows, std::int32_t heads, std::int32_t head_dim) {
  const std::int64_t one = words(like.qkv->rows / 2) + 2 * words(like.qkv->cols) + words(like.output->cols / 2) +
                           words(like.down->cols / 2) +
                           words(std::int64_t{heads} * resident::most_splits_a_row * (head_dim + 2));
  return header_bytes + rows * one;
}

bool resident_serves(const resident_call& call) {
  const attention_call& attention = call.attention;
  if (call.layers.empty() || call.layers.size() > most_resident_layers || attention.kv.head_dim != 128) return false;
  if (attention.kv.format != kv_format::bf16) return false;
  if (!attention.tables->one_row_each || attention.tables->rows > most_resident_rows ||
      attention.tables->longest > most_resident_tokens)
    return false;
  if (!attention.rope.angles) return false;
  for (const resident_layer& layer : call.layers)
    for (int op = 0; op < op_count; ++op) {
      const device_matrix& w = *matrix_of(layer, op);
      if (!alike(w, *matrix_of(call.layers[0], op)) || w.type != call.layers[0].qkv->type || w.rows % 16 ||
          w.cols % 8 || log_parts(w) < 2)
        return false;
    }
  static const device_limits_of device;
  if (device.major < 9 || most_columns(call.layers[0]) > resident::most_columns) return false;
  if (columns_a_warp(*call.layers[0].qkv) > resident::most_normed_columns) return false;
  return with_format(call, device.shared, [&]<class F, int Depth>() { return true; });
}

void run_resident(const resident_call& call, cudaStream_t on) {
  static const device_limits_of device;
  const resident_layer& like = call.layers[0];
  resident::arguments a{};
  for (int op = 0; op < op_count; ++op) {
    const device_matrix& w = *matrix_of(like, op);
    const bool gate = op == op_index::gate_op;
    a.ops[op].n = static_cast<int>(w.rows);
    a.ops[op].half8 = gate ? static_cast<int>(w.rows / 16) : 0;
    a.ops[op].tiles = static_cast<int>(w.rows / 16);
    a.ops[op].groups = static_cast<int>(w.k_padded) / columns_of(w);
    a.ops[op].k = static_cast<int>(w.cols);
    a.ops[op].log_parts = log_parts(w);
    a.ops[op].sets = ((a.ops[op].tiles - 1) >> (resident::log2_warps - a.ops[op].log_parts)) + 1;
    a.ops[op].turn = a.ops[op].sets % device.processors;
    a.ops[op].row_bytes = w.type == weight_type::fp8 ? w.k_padded : w.k_padded * 2;
  }
  a.layers = static_cast<int>(call.layers.size());
  for (int l = 0; l < a.layers; ++l) {
    for (int op = 0; op < op_count; ++op) {
      a.pointers[l].data[op] = matrix_of(call.layers[l], op)->data.as<const std::uint8_t>();
      a.pointers[l].scales[op] = matrix_of(call.layers[l], op)->scales.as<const std::uint8_t>();
    }
    a.pointers[l].gains[0] = call.layers[l].attention_gain;
    a.pointers[l].gains[1] = call.layers[l].mlp_gain;
  }
  const attention_call& attention = call.attention;
  a.eps = call.eps;
  a.hidden = call.hidden;
  a.hidden_stride = call.hidden_stride;
  a.tables = *attention.tables;
  a.attention = attention;
  const int all = decode_groups(attention.heads, attention.kv.kv_heads);
  a.heads = {attention.heads / attention.kv.kv_heads, all / attention.kv.kv_heads, all};
  const std::int64_t rows = a.tables.rows;
  std::byte* at = call.workspace + header_bytes;
  const auto take = [&](std::int64_t count) {
    auto* const taken = reinterpret_cast<tagged_word*>(at);
    at += words(rows * count);
    return taken;
  };
  a.turns = reinterpret_cast<unsigned*>(call.workspace);
  a.qkv = take(like.qkv->rows / 2);
  a.middle = take(like.qkv->cols);
  a.hidden_words = take(like.qkv->cols);
  a.attended = take(like.output->cols / 2);
  a.gated = take(like.down->cols / 2);
  a.records = take(std::int64_t{attention.heads} * resident::most_splits_a_row * (attention.kv.head_dim + 2));
  a.words = (call.workspace_bytes - header_bytes) / static_cast<long>(sizeof(tagged_word));
  with_format(call, device.shared, [&]<class F, int Depth>() {
    const auto kernel = resident::resident_kernel<F, Depth, 128>;
    const int bytes = bytes_of<F, Depth>(call);
    static_cast<void>(
        cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared));
    static_cast<void>(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    launch_together(kernel, dim3(static_cast<unsigned>(device.processors)), dim3(resident::threads),
                    static_cast<std::size_t>(bytes), on, a, most_columns(like));
    return true;
  });
}

}  // namespace troupe::kernels::cuda
