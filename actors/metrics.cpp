// Names of the engine's series, and how they are written.
#include "actors/metrics.hpp"

#include <charconv>

namespace troupe::actors {
namespace {

class writer {
public:
  writer(std::string& out, std::string_view model) : out_(out) {
    for (const char c : model) {
      if (c == '\\' || c == '"') model_ += '\\';
      model_ += c == '\n' ? ' ' : c;
    }
  }

  template <class Number>
  void plain(std::string_view name, std::string_view type, std::string_view help, Number value) {
    head(name, type, help);
    line(name, "", "", value);
  }

  void histogram(std::string_view name, std::string_view help, const duration_histogram& h) {
    head(name, "histogram", help);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i <= h.bounds.size(); ++i) {
      count += h.bucket(i);
      line(name, "_bucket", ",le=\"" + (i < h.bounds.size() ? text(h.bounds[i]) : "+Inf") + "\"", count);
    }
    line(name, "_sum", "", h.sum_seconds());
    line(name, "_count", "", count);
  }

private:
  static std::string text(double value) {
    char digits[32];
    return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
  }
  static std::string text(std::uint64_t value) { return std::to_string(value); }
  static std::string text(std::int64_t value) { return std::to_string(value); }

  void head(std::string_view name, std::string_view type, std::string_view help) {
    out_.append("# HELP ").append(name).append(" ").append(help).append("\n");
    out_.append("# TYPE ").append(name).append(" ").append(type).append("\n");
  }
  template <class Number>
  void line(std::string_view name, std::string_view suffix, const std::string& labels, Number value) {
    out_.append(name).append(suffix).append("{model=\"" + model_ + "\"" + labels + "} " + text(value) + "\n");
  }

  std::string& out_;
  std::string model_;
};

}  // namespace

void duration_histogram::observe(std::chrono::steady_clock::duration d) noexcept {
  const std::int64_t ns = std::chrono::nanoseconds(d).count();
  const double seconds = static_cast<double>(ns) * 1e-9;
  std::size_t i = 0;
  while (i < bounds.size() && seconds > bounds[i]) ++i;
  buckets_[i].fetch_add(1, std::memory_order_relaxed);
  nanoseconds_.fetch_add(ns, std::memory_order_relaxed);
  if (ns > max_.load(std::memory_order_relaxed)) max_.store(ns, std::memory_order_relaxed);
}

std::uint64_t duration_histogram::count() const noexcept {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) count += bucket(i);
  return count;
}

void engine_metrics::append_prometheus(std::string& out, std::string_view model) const {
  writer w(out, model);
  const auto now = [](const auto& value) { return value.load(std::memory_order_relaxed); };
  w.plain("troupe_queue_length", "gauge", "Sequences waiting for a place.", now(queued));
  w.plain("troupe_running_sequences", "gauge", "Sequences in the running batch.", now(running));
  w.plain("troupe_kv_blocks_total", "gauge", "KV blocks in all.", now(kv_blocks_total));
  w.plain("troupe_kv_blocks_used", "gauge", "KV blocks held by sequences.", now(kv_blocks_total) - now(kv_blocks_free) - now(kv_blocks_cached));
  w.plain("troupe_kv_blocks_cached", "gauge", "KV blocks that no sequence holds and that new ones with the same beginning find computed.", now(kv_blocks_cached));
  w.plain("troupe_kv_host_blocks", "gauge", "KV blocks in host memory that new sequences with the same beginning get copied back.", now(kv_host_blocks));
  w.plain("troupe_kv_host_bytes_out_total", "counter", "Bytes of KV blocks copied to host memory.", now(kv_host_bytes_out));
  w.plain("troupe_kv_host_bytes_in_total", "counter", "Bytes of KV blocks copied back.", now(kv_host_bytes_in));
  w.plain("troupe_kv_host_hit_tokens_total", "counter", "Tokens that were not computed since their KV came back from host memory.", now(kv_host_hit_tokens));
  w.plain("troupe_kv_host_failed_copies_total", "counter", "KV blocks that were to be copied and were not.", now(kv_host_failed_copies));
  w.plain("troupe_prompt_tokens_total", "counter", "Prompt tokens of admitted requests.", now(prompt_tokens));
  w.plain("troupe_prefix_cache_hit_tokens_total", "counter", "Tokens that were not computed since the KV of the same beginning was there.", now(prefix_cache_hit_tokens));
  w.plain("troupe_sampled_tokens_total", "counter", "Tokens sampled, end tokens included.", now(sampled_tokens));
  w.plain("troupe_preemptions_total", "counter", "Sequences that gave up their KV blocks and started over.", now(preemptions));
  w.plain("troupe_refused_total", "counter", "Requests that the scheduler refused or failed.", now(refused));
  w.plain("troupe_failed_sequences_total", "counter", "Sequences that failed in a step.", now(failed_sequences));
  w.plain("troupe_steps_total", "counter", "Steps computed.", now(steps));
  w.plain("troupe_prefill_rows_total", "counter", "Prompt rows computed.", now(prefill_rows));
  w.plain("troupe_decode_rows_total", "counter", "Decode rows computed.", now(decode_rows));
  w.plain("troupe_actor_messages_total", "counter", "Messages between the engine's actors.", now(messages));
  w.plain("troupe_hung_steps_total", "counter", "Steps that the watchdog gave up.", now(hung_steps));
  w.plain("troupe_engine_healthy", "gauge", "1 until an actor ends unexpectedly or the device is lost.", std::int64_t{now(healthy)});
  w.histogram("troupe_step_seconds", "Time of a step.", step_time);
  w.histogram("troupe_step_gap_seconds", "End of a step to the start of the next, under load.", step_gap);
  w.plain("troupe_step_gap_seconds_max", "gauge", "The longest such gap.", step_gap.max_seconds());
}

std::string engine_metrics::prometheus_text(std::string_view model) const {
  std::string out;
  append_prometheus(out, model);
  return out;
}

}  // namespace troupe::actors
