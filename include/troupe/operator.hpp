// Operators: plain objects that see a generation's token stream and may pass, rewrite, drop or stop it. They run
// inside the stream shard, with no message per token. They see what was sampled and do not steer the sampler.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <troupe/event.hpp>

namespace troupe {

/// A token of the stream, or several that an operator has joined. `text` is whole code points; a token that ends
/// inside a code point has nothing of that one, and the one that completes it has it all. Where the last code point of
/// a generation is cut short, U+FFFD comes for it without ids.
struct stream_token {
  std::vector<std::int32_t> ids;
  std::string text;
  std::vector<token_logprob> logprobs;  ///< one per id where the request asked for them, else empty
};

/// What an operator sees in one call: tokens that wait for its decision, oldest first, and what it may do with the
/// front. Valid during the call only.
class token_window {
public:
  token_window(std::deque<stream_token>& waiting, std::vector<stream_token>& out, bool at_end)
      : waiting_(waiting), out_(out), at_end_(at_end) {}

  std::size_t size() const noexcept { return waiting_.size(); }
  const stream_token& operator[](std::size_t i) const { return waiting_[i]; }
  /// No token follows those in the window.
  bool at_end() const noexcept { return at_end_; }
  /// The texts of all tokens in the window.
  std::string text() const;

  /// The first `count` tokens go on as they are. (All three: a count over size() means size().)
  void pass(std::size_t count = 1);
  /// The first `count` tokens become one token with this text. It must be UTF-8.
  void rewrite(std::size_t count, std::string text);
  /// The first `count` tokens vanish from the text; usage still counts them.
  void drop(std::size_t count = 1);
  /// The generation ends here with finish_reason::stop; what is still in the window is dropped.
  void stop() noexcept { stopped_ = true; }
  bool stopped() const noexcept { return stopped_; }

private:
  std::deque<stream_token>& waiting_;
  std::vector<stream_token>& out_;
  bool at_end_;
  bool stopped_ = false;
};

/// An operator: copyable, called with a window. It is called again while it takes tokens. If it leaves a full window
/// (hold + 1 tokens) untouched, the front token is passed, so that nothing is held for ever. An exception from it
/// fails this generation only.
template <class T>
concept token_operator = std::copy_constructible<T> && requires(T op, token_window& window) { op(window); };

/// A look-ahead: the operator behind it sees up to `tokens` tokens beyond the one it decides on.
struct hold {
  explicit constexpr hold(std::size_t tokens_held) : tokens(tokens_held) {}
  std::size_t tokens;
};
inline constexpr std::size_t max_hold = 1024;

/// Operators in order, as a prototype: every generation works on its own copy.
class operator_chain {
public:
  class link {
  public:
    virtual ~link() = default;
    virtual std::unique_ptr<link> copy() const = 0;
    virtual void run(token_window& window) = 0;
  };
  struct entry {
    std::shared_ptr<const link> prototype;
    std::size_t hold = 0;
  };

  template <token_operator T>
  operator_chain& add(T op, std::size_t hold_tokens = 0) {
    entries_.push_back({std::make_shared<model<T>>(std::move(op)), hold_tokens < max_hold ? hold_tokens : max_hold});
    return *this;
  }
  std::span<const entry> entries() const noexcept { return entries_; }
  bool empty() const noexcept { return entries_.empty(); }

private:
  template <class T>
  struct model final : link {
    explicit model(T op_) : op(std::move(op_)) {}
    std::unique_ptr<link> copy() const override { return std::make_unique<model>(*this); }
    void run(token_window& window) override { op(window); }
    T op;
  };
  std::vector<entry> entries_;
};

}  // namespace troupe
