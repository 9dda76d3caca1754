// Names, and where their figures come from.
#include "pipelines/metrics_page.hpp"

#include <functional>
#include <memory>

#include "actors/metrics.hpp"
#include "actors/stream/stream_counters.hpp"
#include "base/prometheus_page.hpp"

namespace troupe::pipelines {
namespace {

using actors::engine_metrics;
using actors::stream_counters;
using kind = base::prometheus_page::kind;

/// What one part of every model counts: one metric after the other, each with a sample for every model.
template <class Counts>
class counted {
public:
  counted(base::prometheus_page& page, const std::vector<served_model>& models,
          std::shared_ptr<const Counts> served_model::* part)
      : page_(page), models_(models), part_(part) {}

  /// `figure`: a member, or a function of the counts.
  template <class Figure>
  void show(kind what, std::string_view name, std::string_view help, const Figure& figure) {
    page_.begin(name, what, help);
    for (const served_model& one : models_) sample(one.card.name, std::invoke(figure, *(one.*part_)));
  }

private:
  template <class Value>
  void sample(const std::string& model, const std::atomic<Value>& value) {
    page_.sample(model, value.load(std::memory_order_relaxed));
  }
  template <class Value>
  void sample(const std::string& model, const Value& value) {
    page_.sample(model, value);
  }

  base::prometheus_page& page_;
  const std::vector<served_model>& models_;
  std::shared_ptr<const Counts> served_model::* part_;
};

void show_generations(counted<stream_counters>& all) {
  using of = stream_counters;
  all.show(kind::counter, "troupe_generations_opened_total", "Generations opened.", &of::opened);
  all.show(kind::counter, "troupe_generations_finished_total", "Generations that ended by themselves.", &of::finished);
  all.show(kind::counter, "troupe_generations_failed_total", "Generations that failed.", &of::failed);
  all.show(kind::counter, "troupe_generations_cancelled_total",
           "Generations cancelled, by name or because nobody watched.", &of::cancelled);
  all.show(kind::counter, "troupe_generated_tokens_total", "Tokens generated.", &of::tokens);
  all.show(kind::counter, "troupe_events_total", "Events sent to subscribers.", &of::events);
  all.show(kind::counter, "troupe_pauses_total", "Times that decoding paused for slow subscribers.", &of::pauses);
  all.show(kind::gauge, "troupe_generations_live", "Generations not ended.", &of::live);
  all.show(kind::gauge, "troupe_generations_held", "Ended generations that can still be read.", &of::ended_held);
  all.show(kind::gauge, "troupe_subscribers", "Subscriptions open.", &of::subscribers);
  all.show(kind::histogram, "troupe_time_to_first_token_seconds", "From submit to the first token.", &of::first_token);
  all.show(kind::histogram, "troupe_inter_token_seconds", "Between two tokens of a generation.", &of::inter_token);
}

void show_blocks(counted<engine_metrics>& all) {
  using of = engine_metrics;
  const auto used = [](const of& now) { return now.kv_blocks_total - now.kv_blocks_free - now.kv_blocks_cached; };
  all.show(kind::gauge, "troupe_kv_blocks_total", "KV blocks in all.", &of::kv_blocks_total);
  all.show(kind::gauge, "troupe_kv_blocks_used", "KV blocks held by sequences.", used);
  all.show(kind::gauge, "troupe_kv_blocks_cached",
           "KV blocks that no sequence holds and that new ones with the same beginning find computed.",
           &of::kv_blocks_cached);
  all.show(kind::gauge, "troupe_kv_host_blocks",
           "KV blocks in host memory that new sequences with the same beginning get copied back.", &of::kv_host_blocks);
  all.show(kind::counter, "troupe_kv_host_bytes_out_total", "Bytes of KV blocks copied to host memory.",
           &of::kv_host_bytes_out);
  all.show(kind::counter, "troupe_kv_host_bytes_in_total", "Bytes of KV blocks copied back.", &of::kv_host_bytes_in);
  all.show(kind::counter, "troupe_kv_host_hit_tokens_total",
           "Tokens that were not computed since their KV came back from host memory.", &of::kv_host_hit_tokens);
  all.show(kind::counter, "troupe_kv_host_failed_copies_total", "KV blocks that were to be copied and were not.",
           &of::kv_host_failed_copies);
}

void show_engine(counted<engine_metrics>& all) {
  using of = engine_metrics;
  all.show(kind::gauge, "troupe_queue_length", "Sequences waiting for a place.", &of::queued);
  all.show(kind::gauge, "troupe_running_sequences", "Sequences in the running batch.", &of::running);
  show_blocks(all);
  all.show(kind::counter, "troupe_prompt_tokens_total", "Prompt tokens of admitted requests.", &of::prompt_tokens);
  all.show(kind::counter, "troupe_prefix_cache_hit_tokens_total",
           "Tokens that were not computed since the KV of the same beginning was there.", &of::prefix_cache_hit_tokens);
  all.show(kind::counter, "troupe_sampled_tokens_total", "Tokens sampled, end tokens included.", &of::sampled_tokens);
  all.show(kind::counter, "troupe_preemptions_total", "Sequences that gave up their KV blocks and started over.",
           &of::preemptions);
  all.show(kind::counter, "troupe_refused_total", "Requests that the scheduler refused or failed.", &of::refused);
  all.show(kind::counter, "troupe_failed_sequences_total", "Sequences that failed in a step.", &of::failed_sequences);
  all.show(kind::counter, "troupe_steps_total", "Steps computed.", &of::steps);
  all.show(kind::counter, "troupe_prefill_rows_total", "Prompt rows computed.", &of::prefill_rows);
  all.show(kind::counter, "troupe_decode_rows_total", "Decode rows computed.", &of::decode_rows);
  all.show(kind::counter, "troupe_actor_messages_total", "Messages between the engine's actors.", &of::messages);
  all.show(kind::counter, "troupe_hung_steps_total", "Steps that the watchdog gave up.", &of::hung_steps);
  all.show(kind::gauge, "troupe_engine_healthy", "1 until an actor ends unexpectedly or the device is lost.",
           &of::healthy);
  all.show(kind::histogram, "troupe_step_seconds", "Time of a step.", &of::step_time);
  all.show(kind::histogram, "troupe_step_gap_seconds", "End of a step to the start of the next, under load.",
           &of::step_gap);
  const auto longest = [](const of& now) { return now.step_gap.max_seconds(); };
  all.show(kind::gauge, "troupe_step_gap_seconds_max", "The longest such gap.", longest);
}

}  // namespace

void append_metrics_page(std::string& out, const std::vector<served_model>& models) {
  base::prometheus_page page(out, "model");
  counted generations(page, models, &served_model::stream);
  show_generations(generations);
  counted engines(page, models, &served_model::engine);
  show_engine(engines);
}

}  // namespace troupe::pipelines
