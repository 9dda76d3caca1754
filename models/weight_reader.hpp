// Takes weights out of a GGUF file by name, checks their shape, and packs them for a lane. Knows no architecture.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "kernels/lane.hpp"
#include "models/gguf/gguf_file.hpp"
#include "models/network.hpp"

namespace troupe::models {

struct weight_name {
  std::string name;
  std::int64_t rows = 0;
};

/// One loading thread. Source pages are given back as soon as they are packed, so that a model is in memory once.
/// Errors name the tensor: corrupt_file (missing, or another shape), unsupported (its type), and those of lane::pack.
class weight_reader {
public:
  weight_reader(const gguf_file& file, kernels::lane& lane, const load_progress& progress);
  ~weight_reader();
  weight_reader(const weight_reader&) = delete;
  weight_reader& operator=(const weight_reader&) = delete;

  /// Tells the lane what is to come; before the first matrix. Errors: the lane's.
  result<void> begin();
  /// The tensors stacked into one [sum of rows, cols]. Types may differ only where the lane can stack them.
  result<kernels::matrix> matrix(std::initializer_list<weight_name> parts, std::int64_t cols);
  /// An embedding [rows, cols]; tied: it is the output head too.
  result<kernels::matrix> table(const weight_name& name, std::int64_t cols, bool tied);
  /// `size` finite floats, from F32, F16 or BF16.
  result<std::vector<float>> vector(const std::string& name, std::int64_t size);

  bool has(std::string_view name) const noexcept { return file_.find_tensor(name) != nullptr; }
  /// After the last of them. A tensor that no call above took belongs to something that this architecture's forward
  /// would leave out: unsupported. Only then may the lane pack: its errors too.
  result<void> finish();

private:
  result<memory::tensor_view> take(const std::string& name, std::int64_t rows, std::int64_t cols);
  void done(const std::string& name);
  error about(const std::string& tensor, const error& why) const;

  const gguf_file& file_;
  kernels::lane& lane_;
  const load_progress& progress_;
  std::set<std::string, std::less<>> read_;
  std::vector<std::string> packed_;  ///< the names in each matrix, in the order of the lane's calls
  std::int64_t total_bytes_ = 0;
  std::int64_t done_bytes_ = 0;
};

}  // namespace troupe::models
