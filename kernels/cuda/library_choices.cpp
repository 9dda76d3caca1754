// Writes and reads lines.
#include "kernels/cuda/library_choices.hpp"

#include <algorithm>
#include <sstream>

#include "memory/kept_text.hpp"

namespace troupe::kernels::cuda {
namespace {

/// Raised whenever ways come to mean something else.
constexpr std::string_view heading = "troupe library choices 1";
constexpr double clearly = 0.96;  // what a measurement may be wrong by
constexpr const char* elements[] = {"bf16", "f16", "fp8"};

std::optional<library_shape::element> element_named(const std::string& name) {
  const auto found = std::find(std::begin(elements), std::end(elements), name);
  if (found == std::end(elements)) return std::nullopt;
  return static_cast<library_shape::element>(found - std::begin(elements));
}

}  // namespace

library_choices library_choices::of(std::string_view text, std::string_view fingerprint) {
  const auto lines = memory::lines_of(text, heading, fingerprint);
  if (!lines) return {};
  library_choices all;
  std::istringstream in(*lines);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string inputs, out, rest;
    library_shape shape;
    choice chosen{};
    words >> inputs >> out >> shape.n >> shape.k >> shape.rows >> chosen.way >> chosen.nanoseconds >>
        chosen.usual_nanoseconds;
    const auto element = element_named(inputs);
    const bool sound = words && !(words >> rest) && element && (out == "f32" || out == "bf16") &&
                       chosen.way >= own_way && chosen.way < most_library_ways;
    if (!sound) return {};
    shape.inputs = *element;
    shape.f32_out = out == "f32";
    all.chosen_[shape] = chosen;
  }
  return all;
}

std::string library_choices::text(std::string_view fingerprint) const {
  std::ostringstream out;
  for (const auto& [shape, chosen] : chosen_)
    out << elements[static_cast<std::size_t>(shape.inputs)] << (shape.f32_out ? " f32 " : " bf16 ") << shape.n << ' '
        << shape.k << ' ' << shape.rows << ' ' << chosen.way << ' ' << chosen.nanoseconds << ' '
        << chosen.usual_nanoseconds << '\n';
  return memory::kept_text(heading, fingerprint, out.str());
}

std::optional<library_way> library_choices::way(const library_shape& shape) const {
  const auto found = chosen_.find(shape);
  if (found == chosen_.end()) return std::nullopt;
  return found->second.way;
}

void library_choices::add(const library_choices& newer) {
  for (const auto& [shape, chosen] : newer.chosen_) chosen_[shape] = chosen;
}

void library_choices::choose(const library_shape& shape, timed_way usual, timed_way best) {
  const bool better =
      best.nanoseconds > 0 && static_cast<double>(best.nanoseconds) < clearly * static_cast<double>(usual.nanoseconds);
  chosen_[shape] = {better ? best.way : usual.way, better ? best.nanoseconds : usual.nanoseconds, usual.nanoseconds};
}

std::size_t library_choices::unusual() const noexcept {
  return static_cast<std::size_t>(std::count_if(chosen_.begin(), chosen_.end(), [](const auto& one) {
    return one.second.nanoseconds != one.second.usual_nanoseconds;
  }));
}

std::string library_choices_path(const memory::copy_folder& folder, const std::string& device) {
  return folder.path_of(device, "library");
}

}  // namespace troupe::kernels::cuda
