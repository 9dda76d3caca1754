// Lines, labels and numbers.
#include "base/prometheus_page.hpp"

#include <charconv>

namespace troupe::base {
namespace {

std::string text_of(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

std::string_view name_of(prometheus_page::kind what) {
  switch (what) {
    case prometheus_page::kind::counter: return "counter";
    case prometheus_page::kind::gauge: return "gauge";
    case prometheus_page::kind::histogram: return "histogram";
  }
  return "untyped";
}

}  // namespace

void prometheus_page::begin(std::string_view name, kind what, std::string_view help) {
  name_ = name;
  out_.append("# HELP ").append(name).append(" ").append(help).append("\n");
  out_.append("# TYPE ").append(name).append(" ").append(name_of(what)).append("\n");
}

void prometheus_page::sample(std::string_view of, double value) { line("", of, "", text_of(value)); }

void prometheus_page::sample(std::string_view of, const duration_histogram& value) {
  std::uint64_t count = 0;  // buckets hold all that is no longer than their bound
  const auto bounds = value.bounds();
  for (std::size_t i = 0; i <= bounds.size(); ++i) {
    count += value.bucket(i);
    line("_bucket", of, i < bounds.size() ? text_of(bounds[i]) : "+Inf", std::to_string(count));
  }
  line("_sum", of, "", text_of(value.sum_seconds()));
  line("_count", of, "", std::to_string(count));
}

void prometheus_page::line(std::string_view suffix, std::string_view of, std::string_view bound,
                           std::string_view value) {
  out_.append(name_).append(suffix).append("{").append(label_).append("=\"");
  for (const char c : of) {
    if (c == '\\' || c == '"') out_ += '\\';
    out_ += c == '\n' ? ' ' : c;
  }
  out_ += '"';
  if (!bound.empty()) out_.append(",le=\"").append(bound).append("\"");
  out_.append("} ").append(value).append("\n");
}

}  // namespace troupe::base
