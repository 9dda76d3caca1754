// Writes Prometheus' text exposition format 0.0.4 by appending to a string. Knows no metric.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/duration_histogram.hpp"

namespace troupe::base {

/// A metric's name is begun once, then come its samples, each under another value of the page's one label: a reader
/// refuses a page that names a metric twice.
class prometheus_page {
public:
  enum class kind { counter, gauge, histogram };

  /// Appends to `out`; `label` ("model") outlives the page.
  prometheus_page(std::string& out, std::string_view label) : out_(out), label_(label) {}

  void begin(std::string_view name, kind what, std::string_view help);
  /// Of the metric begun last.
  template <std::integral Number>
  void sample(std::string_view of, Number value) {
    line("", of, "", std::to_string(value));
  }
  void sample(std::string_view of, double value);
  void sample(std::string_view of, const duration_histogram& value);

private:
  void line(std::string_view suffix, std::string_view of, std::string_view bound, std::string_view value);

  std::string& out_;
  std::string_view label_;
  std::string name_;
};

}  // namespace troupe::base
