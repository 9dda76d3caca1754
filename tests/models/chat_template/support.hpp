// Short ways to parse and render in these tests. Time is 2024-05-06 07:08:09 UTC.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "models/chat_template/chat_template.hpp"

namespace chat_template_test {

using namespace troupe;
using models::chat_template;
using models::rendered_span;
using models::value;

inline const auto now =
    std::chrono::sys_days(std::chrono::year(2024) / 5 / 6) + std::chrono::seconds(7 * 3600 + 8 * 60 + 9);

inline result<std::vector<rendered_span>> spans(const std::string& source, const value& context = value::dict({}),
                                                const models::template_budget& budget = {}) {
  auto parsed = chat_template::parse(source);
  if (!parsed) return parsed.why();
  return parsed->render(context, now, budget);
}

/// The text, or "error: " and why.
inline std::string rendered(const std::string& source, const value& context = value::dict({}),
                            const models::template_budget& budget = {}) {
  const auto made = spans(source, context, budget);
  return made ? models::joined(*made) : "error: " + made.why().text;
}

/// The text with what is not trusted in square brackets.
inline std::string marked(const std::string& source, const value& context) {
  const auto made = spans(source, context);
  if (!made) return "error: " + made.why().text;
  std::string shown;
  for (const rendered_span& one : *made) shown += one.trusted ? one.text : std::string(1, '[') + one.text + "]";
  return shown;
}

inline value with(const std::string& name, value given) {
  return value::dict({{value::trusted(name), std::move(given)}});
}

}  // namespace chat_template_test
