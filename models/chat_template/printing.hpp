// Values as text: str(), repr() and JSON, provenance kept. Knows no syntax.
#pragma once

#include <optional>
#include <string>

#include "models/chat_template/meter.hpp"
#include "models/chat_template/value.hpp"

namespace troupe::models::jinja {

/// What {{ value }} prints. Charges `cost` for what it writes.
void append_str(meter& cost, const value& printed, text& out);
/// str(value); shares the text when it is a string already.
text to_text(meter& cost, const value& printed);
void append_repr(meter& cost, const value& printed, text& out);

/// json.dumps's options.
struct json_style {
  std::optional<text> indent;  ///< one level's
  text item_separator;
  text key_separator;
  bool ensure_ascii = false;
  bool sort_keys = false;
};
/// json.dumps(value); undefined, functions and generators have no JSON.
void append_json(meter& cost, const value& printed, const json_style& style, text& out);

}  // namespace troupe::models::jinja
