// Shape checks and packing of weights. Knows no architecture.
#include "models/weight_reader.hpp"

#include <cmath>

#include "kernels/cpu/half.hpp"

namespace troupe::models {

weight_reader::weight_reader(const gguf_file& file, kernels::lane& lane, const load_progress& progress)
    : file_(file), lane_(lane), progress_(progress) {
  for (const gguf_tensor& tensor : file.tensors()) total_bytes_ += tensor.bytes;
}

weight_reader::~weight_reader() {
  if (auto told = lane_.expect_weights(nullptr, 0); !told) return;  // nothing is expected: nothing can be refused
}

result<void> weight_reader::begin() { return lane_.expect_weights(file_.mapped(), total_bytes_); }

result<memory::tensor_view> weight_reader::take(const std::string& name, std::int64_t rows, std::int64_t cols) {
  auto view = file_.view(name);
  if (!view) return view;
  if (view->rows != rows || view->cols != cols) {
    return error{errc::corrupt_file,
                 file_.name() + ": tensor \"" + name + "\" is " + std::to_string(view->rows) + " by " +
                     std::to_string(view->cols) + ", expected " + std::to_string(rows) + " by " + std::to_string(cols),
                 {}};
  }
  read_.insert(name);
  return view;
}

void weight_reader::done(const std::string& name) {
  done_bytes_ += file_.find_tensor(name)->bytes;
  if (progress_) progress_(done_bytes_, total_bytes_);
}

result<kernels::matrix> weight_reader::matrix(std::initializer_list<weight_name> parts, std::int64_t cols) {
  std::vector<memory::tensor_view> views;
  for (const weight_name& part : parts) {
    auto view = take(part.name, part.rows, cols);
    if (!view) return std::move(view).why();
    views.push_back(*view);
  }
  std::string names;
  for (const weight_name& part : parts) names += (names.empty() ? "" : "\" or \"") + part.name;
  auto packed = lane_.pack(views);
  if (!packed) return about(names, packed.why());
  packed_.push_back(std::move(names));
  for (const weight_name& part : parts) done(part.name);
  return packed;
}

result<kernels::matrix> weight_reader::table(const weight_name& name, std::int64_t cols, bool tied) {
  auto view = take(name.name, name.rows, cols);
  if (!view) return std::move(view).why();
  auto packed = lane_.pack_table(*view, tied);
  if (!packed) return about(name.name, packed.why());
  packed_.push_back(name.name);
  done(name.name);
  return packed;
}

error weight_reader::about(const std::string& tensor, const error& why) const {
  return {why.code, file_.name() + ": tensor \"" + tensor + "\": " + why.text, {}};
}

result<std::vector<float>> weight_reader::vector(const std::string& name, std::int64_t size) {
  auto view = take(name, 1, size);
  if (!view) return std::move(view).why();
  std::vector<float> values(static_cast<std::size_t>(size));
  std::vector<std::byte> bytes(static_cast<std::size_t>(view->bytes()));
  if (auto read = file_.read(*file_.find_tensor(name), bytes); !read) return std::move(read).why();
  const auto* halves = reinterpret_cast<const std::uint16_t*>(bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (view->type) {
      case memory::dtype::f32: values[i] = reinterpret_cast<const float*>(bytes.data())[i]; break;
      case memory::dtype::f16: values[i] = kernels::f16_to_f32(halves[i]); break;
      case memory::dtype::bf16: values[i] = kernels::bf16_to_f32(halves[i]); break;
      default:
        return error{errc::unsupported, file_.name() + ": tensor \"" + name + "\" is a vector of quantised type", {}};
    }
    if (!std::isfinite(values[i])) {
      return error{errc::corrupt_file, file_.name() + ": tensor \"" + name + "\" holds a value that is not finite", {}};
    }
  }
  done(name);
  return values;
}

result<void> weight_reader::finish() {
  for (const gguf_tensor& tensor : file_.tensors()) {
    if (read_.contains(tensor.name)) continue;
    return error{errc::unsupported,
                 file_.name() + ": tensor \"" + std::string(tensor.name) +
                     "\" has no place in this architecture as Troupe knows it",
                 {}};
  }
  std::size_t which = packed_.size();
  auto finished = lane_.finish_weights(which);
  if (finished) return {};
  return which < packed_.size() ? about(packed_[which], finished.why()) : error{finished.why()};
}

}  // namespace troupe::models
