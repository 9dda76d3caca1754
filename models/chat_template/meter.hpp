// What a render may still spend, and the one way it fails. Knows no values and no syntax.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include <troupe/result.hpp>

namespace troupe::models {

/// Limits of one render. Reaching any of them is an error with a line number, never a crash or a long wait.
struct template_budget {
  std::size_t steps = 1'000'000;        ///< expressions, statements, list elements, and every 64 bytes of new text
  std::size_t depth = 256;              ///< nested expressions, blocks and macro calls
  std::size_t output_bytes = 8u << 20;  ///< the rendered text
  std::size_t value_bytes = 16u << 20;  ///< any one string on the way there
};

namespace jinja {

/// Unwinds the parser or a render. Private to this room: chat_template.cpp turns it into a result.
struct template_failure {
  error why;
};

class meter {
public:
  explicit meter(const template_budget& budget) : budget_(budget), steps_left_(budget.steps) {}

  void step(std::size_t count = 1) {
    if (count > steps_left_)
      fail(std::string("the template takes too many steps (limit ") + std::to_string(budget_.steps) + ")");
    steps_left_ -= count;
  }

  /// Call before a string of `size` bytes is made.
  void text_bytes(std::size_t size) {
    text_size(size);
    step(size / 64);
  }
  /// The same for one that grows: checks its whole size, and leaves the charge for what is added to the caller.
  void text_size(std::size_t total) const {
    if (total > budget_.value_bytes)
      fail(std::string("a string in the template grows too long (limit ") + std::to_string(budget_.value_bytes) +
           " bytes)");
  }

  void output_bytes(std::size_t total) {
    if (total > budget_.output_bytes)
      fail(std::string("the rendered prompt is too long (limit ") + std::to_string(budget_.output_bytes) + " bytes)");
  }

  void enter() {
    if (++depth_ > budget_.depth)
      fail(std::string("the template nests too deeply (limit ") + std::to_string(budget_.depth) + ")");
  }
  void leave() { --depth_; }

  void at(std::size_t line) { line_ = line; }
  std::size_t line() const { return line_; }

  [[noreturn]] void fail(std::string text) const {
    throw template_failure{{errc::invalid_argument, "line " + std::to_string(line_) + ": " + std::move(text), {}}};
  }

private:
  template_budget budget_;
  std::size_t steps_left_;
  std::size_t depth_ = 0;
  std::size_t line_ = 1;
};

/// One level of nesting for as long as it lives.
class depth_guard {
public:
  explicit depth_guard(meter& cost) : cost_(cost) { cost_.enter(); }
  ~depth_guard() { cost_.leave(); }
  depth_guard(const depth_guard&) = delete;
  depth_guard& operator=(const depth_guard&) = delete;

private:
  meter& cost_;
};

}  // namespace jinja
}  // namespace troupe::models
