// Lines of tests/reference/{logits,greedy,nll}.jsonl as values.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace troupe::test {

using scored = std::vector<std::pair<std::int32_t, float>>;

/// Fields that a line lacks are empty or 0.
struct reference_line {
  std::vector<std::int32_t> ids;
  double nll = 0;
  std::vector<scored> top;
  std::vector<std::int32_t> greedy;
  std::vector<float> margin;
};

/// Empty where the file cannot be read or a line does not parse.
std::vector<reference_line> read_reference(const std::string& path);

}  // namespace troupe::test
