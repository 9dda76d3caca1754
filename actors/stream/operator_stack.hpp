// One generation's operators, in order, each with its window of tokens. Knows the token stream only.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include <troupe/operator.hpp>

namespace troupe::actors {

class operator_stack {
public:
  operator_stack() = default;
  explicit operator_stack(const operator_chain& chain);
  operator_stack(const operator_stack& other) { *this = other; }
  operator_stack(operator_stack&&) noexcept = default;
  operator_stack& operator=(const operator_stack& other);
  operator_stack& operator=(operator_stack&&) noexcept = default;

  bool empty() const noexcept { return stages_.empty(); }
  /// Sends tokens through, replacing `tokens` by what comes out. `at_end`: nothing follows, all windows run dry.
  /// True: an operator stopped the generation, and all windows have run dry. Throws what an operator throws.
  bool run(std::vector<stream_token>& tokens, bool at_end);

private:
  struct stage {
    std::unique_ptr<operator_chain::link> op;
    std::size_t hold = 0;
    std::deque<stream_token> waiting;
  };
  static bool run_stage(stage& one, std::vector<stream_token>& tokens, bool at_end);
  static bool offer(stage& one, std::vector<stream_token>& out, bool at_end);

  std::vector<stage> stages_;
};

}  // namespace troupe::actors
