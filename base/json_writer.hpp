// Writes JSON (RFC 8259) by appending to a string: for the hot path, where a token's event becomes bytes. Knows no
// schema and builds no tree. What comes out is always valid UTF-8: broken bytes become U+FFFD.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace troupe::base {

/// Appends `text` as a quoted JSON string. Escapes what JSON demands, and U+2028/U+2029 for those who paste JSON into
/// scripts; each maximal broken UTF-8 sequence (Unicode 15, 3.9, table 3-7) becomes one U+FFFD. Linear.
void append_json_string(std::string& out, std::string_view text);

/// The shortest digits that read back as `value`; NaN and infinities, which JSON lacks, become null.
void append_json_number(std::string& out, double value);
void append_json_number(std::string& out, float value);
void append_json_number(std::string& out, std::int64_t value);
void append_json_number(std::string& out, std::uint64_t value);

/// Commas and colons kept right: begin_object().key("id").value(1).end_object(). Appends to a string it does not own;
/// the caller pairs begins and ends. Nesting is not limited and costs nothing.
class json_writer {
public:
  explicit json_writer(std::string& out) noexcept : out_(&out) {}

  json_writer& begin_object() { return open('{'); }
  json_writer& end_object() { return close('}'); }
  json_writer& begin_array() { return open('['); }
  json_writer& end_array() { return close(']'); }

  json_writer& key(std::string_view name) {
    separate();
    append_json_string(*out_, name);
    out_->push_back(':');
    first_ = true;
    return *this;
  }

  json_writer& value(std::string_view text) {
    separate();
    append_json_string(*out_, text);
    return *this;
  }
  json_writer& value(const char* text) { return value(std::string_view(text)); }
  json_writer& value(const std::string& text) { return value(std::string_view(text)); }

  template <class Number>
    requires(std::integral<Number> || std::floating_point<Number>)
  json_writer& value(Number number) {
    separate();
    if constexpr (std::same_as<Number, bool>) out_->append(number ? "true" : "false");
    else if constexpr (std::same_as<Number, float>) append_json_number(*out_, number);
    else if constexpr (std::floating_point<Number>) append_json_number(*out_, static_cast<double>(number));
    else if constexpr (std::signed_integral<Number>) append_json_number(*out_, static_cast<std::int64_t>(number));
    else append_json_number(*out_, static_cast<std::uint64_t>(number));
    return *this;
  }

  json_writer& null() { return raw("null"); }

  /// `json` is already JSON: written as it is.
  json_writer& raw(std::string_view json) {
    separate();
    out_->append(json);
    return *this;
  }

  /// key(name).value(what) in one word.
  template <class What>
  json_writer& field(std::string_view name, const What& what) {
    return key(name).value(what);
  }

private:
  json_writer& open(char bracket) {
    separate();
    out_->push_back(bracket);
    first_ = true;
    return *this;
  }
  json_writer& close(char bracket) {
    out_->push_back(bracket);
    first_ = false;
    return *this;
  }
  void separate() {
    if (!first_) out_->push_back(',');
    first_ = false;
  }

  std::string* out_;
  bool first_ = true;  ///< nothing stands before the next item: no comma
};

}  // namespace troupe::base
