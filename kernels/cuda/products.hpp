// Products of activations with weights: out[T, rows] = x[T, cols] . w^T, with what comes before and after fused in.
// Knows no model. A row's bits do not depend on the other rows of a call up to small_product_rows; see each function.
#pragma once

#include <memory>
#include <optional>

#include "kernels/cuda/cublas_lt.hpp"
#include "kernels/cuda/weights.hpp"

namespace troupe::kernels::cuda {

enum class product_output : std::uint8_t {
  bf16,       ///< out: bf16 [T, rows]
  f32,        ///< out: f32 [T, rows]
  add_f32,    ///< out: f32 [T, rows] += product (the residual stream)
  silu_bf16,  ///< w is gate|up stacked; out: bf16 [T, rows / 2] = silu(gate) * up
};

struct product {
  const device_matrix* w = nullptr;
  std::int32_t rows = 0;          ///< T
  const bf16* x = nullptr;        ///< [T, cols], or null: x = rms_norm(hidden) * gain
  bool gated = false;             ///< x is gate|up [T, 2 cols], and silu(gate) * up meant: for many rows of fp8 only
  std::int64_t x_stride = 0;      ///< elements between rows of x, or of hidden
  const float* hidden = nullptr;  ///< f32 [T, cols]
  const float* gain = nullptr;    ///< f32 [cols]
  float eps = 0.0f;
  void* out = nullptr;
  std::int64_t out_stride = 0;  ///< elements
  product_output output = product_output::bf16;
};

/// Most rows that small_product takes of this matrix: 8, or fewer where x would not fit beside the weights in flight.
std::int32_t small_product_rows(const device_matrix& w);

/// Streams the weights once for up to small_product_rows rows: bytes / memory bandwidth is its floor. The order of each
/// sum depends on the matrix alone.
void small_product(const product& p, cudaStream_t on);

/// Up to so many rows a product can have its norm inside, and write its reader's x: fp8 to the first, bf16 to the
/// second, which is the stride of squares too.
constexpr std::int32_t narrow_rows = 16, fused_rows = 256;

/// x as the wgmma kernel takes it: bf16 [T, cols]; or for fp8 weights e4m3 [T, k_padded] in their column order, with a
/// scale for every 64 columns, of more than narrow_rows rows one a row.
struct wide_input {
  const void* data = nullptr;
  std::int64_t stride = 0;        ///< elements, a multiple of 16
  const float* scales = nullptr;  ///< fp8: [k_padded / 64][narrow_rows], or [T]
  const float* squares =
      nullptr;  ///< [(cols + 63) / 64][fused_rows]: x is to be divided by its length, of which these are parts
};

/// What a product also writes: the x of the one that reads it, in that one's form. Of add_f32 out * gain and its
/// squares; of silu_bf16 the x alone, and then nothing to `out`.
struct wide_next {
  void* data = nullptr;  ///< null: nothing
  std::int64_t stride = 0;
  float* scales = nullptr;
  float* squares = nullptr;
  int squares_count = 0;
  const float* gain = nullptr;
  bool bytes = false;  ///< e4m3, else bf16
};

/// bf16 of a few MB, whose products cost latency and no bandwidth.
inline bool is_small(const device_matrix& w) { return w.type == weight_type::bf16 && w.bytes <= 16 << 20; }

/// Does wide_product take it?
bool wide_serves(const product& p);

/// More rows by wgmma, on Hopper: bf16 and fp8 up to 64 rows, small matrices to fused_rows, packed types any number.
/// Ignores p.x, p.hidden. The order of each sum depends on the matrix, and on whether rows are more than 64; from there
/// on to 512 on how many. Of small matrices: on whether they are more than 32, 64, 128 or 192.
/// `split`: blocks that share a tile's columns, 1, 2, 4 or 8; 0: by rule. `one_order`: for any number of rows as
/// for 64.
void wide_product(const product& p, const wide_input& x, cudaStream_t on, const wide_next& next = {}, int split = 0,
                  bool one_order = false);

/// Do more than four blocks share a tile's columns? Then the library is the faster one for bf16.
bool wide_shares_much(const product& p);

/// x of a product that has its norm inside, or of fp8 with few rows, as wide_product takes it, from p.x or p.hidden;
/// the same bits as from wide_next.
void prepare_blocks(const product& p, const wide_next& to, cudaStream_t on);

/// Chooses the kernel for each product. One thread at a time; products of one object share its workspace, so all go to
/// one stream.
class products {
public:
  /// `one_order`: a row's bits depend on no other row and on no count of rows: one kernel for a matrix, the wgmma one
  /// where it takes the matrix, else the one for few rows as often as need be.
  static result<std::unique_ptr<products>> make(bool one_order = false);

  /// What was measured of this device: then products that have no norm inside go as it says.
  void follow(std::shared_ptr<const library_choices> choices) { choices_ = std::move(choices); }
  /// While `into` is set, the first product of each shape is timed in all its ways, into `out` again and again: what it
  /// adds to is garbage then. Null: an end of that.
  result<void> tune(library_choices* into);
  /// 0: the library is not on this machine.
  std::size_t library_version() const { return library_ ? library_->version() : 0; }

  /// Makes the workspace large enough for `rows` rows times w, before the first such product (and before a capture).
  result<void> reserve(std::int32_t rows, const device_matrix& w);
  result<void> linear(const product& p, cudaStream_t on);
  /// The same, but `p` may be held back until the next call shows who reads it: then it writes that one's x as well, in
  /// place of a kernel that does nothing else. The bits are those of linear. `settle` before anything else is queued,
  /// or p.out read.
  result<void> chain(const product& p, cudaStream_t on);
  result<void> settle(cudaStream_t on);
  /// Does `linear` take a gated x for this matrix and so many rows?
  bool takes_gated(const device_matrix& w, std::int32_t rows) const;

private:
  /// A product that is held back, and its x where it has been written already.
  struct held {
    product what;
    wide_input x;
  };

  bool may_fuse(const product& p) const;
  bool may_choose(const product& p) const;
  bool takes_wide(const product& p) const;
  wide_next room_for(const product& reader, const void* taken);
  wide_next written_for(const product& reader, const held& by);
  result<void> run(const held& p, const wide_next& next, cudaStream_t on);
  void run_wide(const held& p, const wide_next& next, cudaStream_t on);
  result<void> dense(const product& p, library_way way, cudaStream_t on);
  dense_product described(const product& p) const;
  std::optional<library_way> chosen(const product& p) const;
  result<void> time_ways(const product& p, cudaStream_t on);

  bool one_order_ = false;
  std::unique_ptr<cublas_lt> library_;              // null: not on this machine
  std::shared_ptr<const library_choices> choices_;  // null: all go the usual way
  library_choices* tuned_ = nullptr;
  device_buffer swept_;  // while tuning: larger than the cache
  std::optional<held> held_;
  device_buffer prepared_[2];  // x normed or quantised: of a product, and of its reader
  device_buffer scales_;       // of fp8 rows
  device_buffer wide_;         // gate|up before silu
};

}  // namespace troupe::kernels::cuda
