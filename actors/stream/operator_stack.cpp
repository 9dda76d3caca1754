// Windows filled and offered.
#include "actors/stream/operator_stack.hpp"

namespace troupe::actors {

operator_stack::operator_stack(const operator_chain& chain) {
  for (const auto& entry : chain.entries()) stages_.push_back({entry.prototype->copy(), entry.hold, {}});
}

operator_stack& operator_stack::operator=(const operator_stack& other) {
  if (this == &other) return *this;
  stages_.clear();
  for (const stage& one : other.stages_) stages_.push_back({one.op->copy(), one.hold, one.waiting});
  return *this;
}

bool operator_stack::run(std::vector<stream_token>& tokens, bool at_end) {
  bool stopped = false;
  for (stage& one : stages_) stopped = run_stage(one, tokens, at_end || stopped) || stopped;
  return stopped;
}

bool operator_stack::run_stage(stage& one, std::vector<stream_token>& tokens, bool at_end) {
  std::vector<stream_token> out;
  bool stopped = false;
  for (stream_token& token : tokens) {
    one.waiting.push_back(std::move(token));
    while (!stopped && one.waiting.size() > one.hold) stopped = offer(one, out, false);
    if (stopped) break;
  }
  while (at_end && !stopped && !one.waiting.empty()) stopped = offer(one, out, true);
  if (stopped) one.waiting.clear();
  tokens = std::move(out);
  return stopped;
}

bool operator_stack::offer(stage& one, std::vector<stream_token>& out, bool at_end) {
  const std::size_t before = one.waiting.size();
  token_window window(one.waiting, out, at_end);
  one.op->run(window);
  if (window.stopped()) return true;
  if (one.waiting.size() == before) window.pass();
  return false;
}

}  // namespace troupe::actors
