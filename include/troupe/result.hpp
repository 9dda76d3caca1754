// result<T>: a value or an error. The one way that Troupe's own code reports failure.
// Knows nothing of HTTP or WebSockets: server/ maps errc to statuses and close codes in one table.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace troupe {

/// Every kind of failure a caller may want to tell apart. Total: server/ and the CLI switch over it.
enum class errc {
  invalid_argument,         ///< a field of a request is wrong; error::param names it
  context_length_exceeded,  ///< the prompt does not fit the model's context
  not_found,                ///< no such model, generation or file
  unsupported,              ///< understood, but not offered
  overloaded,               ///< the queue is full; try again later
  out_of_memory,            ///< can never fit, or the memory is not there
  cancelled,                ///< ended by its owner
  deadline_exceeded,        ///< not done in time
  corrupt_file,             ///< a file breaks its format; text says file, offset and reason
  io,                       ///< the operating system said no
  network,                  ///< a download failed
  numeric,                  ///< NaN or infinity where a number was needed
  shutting_down,            ///< the runtime is ending
  internal,                 ///< a bug or a dead part of the engine
};

/// The enumerator's own name ("not_found"); stable, used as `code` in answers and logs.
std::string_view to_string(errc code) noexcept;

struct error {
  errc code = errc::internal;
  std::string text;   ///< one sentence for a person: what is wrong and, where it helps, what to do
  std::string param;  ///< the request field at fault ("messages[2].role"), or empty
};

/// What public constructors and range loops throw; carries the error.
class failure : public std::runtime_error {
public:
  explicit failure(error e) : std::runtime_error(e.text), error_(std::move(e)) {}
  const error& why() const noexcept { return error_; }

private:
  error error_;
};

/// A T or an error. Never empty. Dereferencing the wrong side is a bug in the caller (std::get throws).
template <class T>
class [[nodiscard]] result {
public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(error e) : state_(std::in_place_index<1>, std::move(e)) {}

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

  const error& why() const& { return std::get<1>(state_); }
  error&& why() && { return std::get<1>(std::move(state_)); }

  /// The value, or throws `failure`.
  T value_or_throw() && {
    if (!ok()) throw failure(std::get<1>(std::move(state_)));
    return std::get<0>(std::move(state_));
  }

private:
  std::variant<T, error> state_;
};

template <>
class [[nodiscard]] result<void> {
public:
  result() = default;
  result(error e) : error_(std::move(e)) {}

  bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  const error& why() const& { return *error_; }
  error&& why() && { return std::move(*error_); }

private:
  std::optional<error> error_;
};

}  // namespace troupe
