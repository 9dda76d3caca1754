// Names, and how a histogram is written.
#include "pipelines/stream_metrics.hpp"

#include <charconv>
#include <string_view>

#include "actors/stream/stream_counters.hpp"

namespace troupe::pipelines {
namespace {

using actors::latency_histogram;
using actors::stream_counters;

void head(std::string& out, std::string_view name, std::string_view type, std::string_view help) {
  for (const auto& [word, rest] : {std::pair{"# HELP ", help}, std::pair{"# TYPE ", type}})
    out.append(word).append(name).append(" ").append(rest).append("\n");
}

// A label's value: backslash, quote and newline are escaped.
std::string label(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string number(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

template <class Value>
void plain(std::string& out, const std::vector<served_model>& models, std::string_view name, std::string_view type,
           std::string_view help, Value value) {
  head(out, name, type, help);
  for (const served_model& one : models)
    if (one.stream) out.append(name).append("{model=\"" + label(one.card.name) + "\"} " + std::to_string(value(*one.stream)) + "\n");
}

void one_histogram(std::string& out, std::string_view name, const std::string& model, const latency_histogram& h) {
  const std::string label = "model=\"" + model + "\"";
  std::uint64_t count = 0;
  for (std::size_t i = 0; i <= latency_histogram::bounds.size(); ++i) {
    count += h.bucket(i);
    const std::string bound = i < latency_histogram::bounds.size() ? number(latency_histogram::bounds[i]) : "+Inf";
    out.append(name).append("_bucket{" + label + ",le=\"" + bound + "\"} " + std::to_string(count) + "\n");
  }
  out.append(name).append("_sum{" + label + "} " + number(h.sum_seconds()) + "\n");
  out.append(name).append("_count{" + label + "} " + std::to_string(count) + "\n");
}

void histogram(std::string& out, const std::vector<served_model>& models, std::string_view name, std::string_view help,
               latency_histogram stream_counters::*which) {
  head(out, name, "histogram", help);
  for (const served_model& one : models)
    if (one.stream) one_histogram(out, name, label(one.card.name), (*one.stream).*which);
}

}  // namespace

void append_stream_metrics(std::string& out, const std::vector<served_model>& models) {
  const auto counter = [&](std::string_view name, std::string_view help, auto member) {
    plain(out, models, name, "counter", help, [member](const stream_counters& c) { return (c.*member).load(); });
  };
  const auto gauge = [&](std::string_view name, std::string_view help, auto member) {
    plain(out, models, name, "gauge", help, [member](const stream_counters& c) { return (c.*member).load(); });
  };
  counter("troupe_generations_opened_total", "Generations opened.", &stream_counters::opened);
  counter("troupe_generations_finished_total", "Generations that ended by themselves.", &stream_counters::finished);
  counter("troupe_generations_failed_total", "Generations that failed.", &stream_counters::failed);
  counter("troupe_generations_cancelled_total", "Generations cancelled, by name or because nobody watched.", &stream_counters::cancelled);
  counter("troupe_generated_tokens_total", "Tokens generated.", &stream_counters::tokens);
  counter("troupe_events_total", "Events sent to subscribers.", &stream_counters::events);
  counter("troupe_pauses_total", "Times that decoding paused for slow subscribers.", &stream_counters::pauses);
  gauge("troupe_generations_live", "Generations not ended.", &stream_counters::live);
  gauge("troupe_generations_held", "Ended generations that can still be read.", &stream_counters::ended_held);
  gauge("troupe_subscribers", "Subscriptions open.", &stream_counters::subscribers);
  histogram(out, models, "troupe_time_to_first_token_seconds", "From submit to the first token.", &stream_counters::first_token);
  histogram(out, models, "troupe_inter_token_seconds", "Between two tokens of a generation.", &stream_counters::inter_token);
}

}  // namespace troupe::pipelines
