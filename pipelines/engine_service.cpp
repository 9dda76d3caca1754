// Calls become messages to the shard that owns the generation.
#include "pipelines/engine_service.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include <caf/send.hpp>

#include "actors/handles.hpp"
#include "pipelines/metrics_page.hpp"
#include "pipelines/request_path.hpp"

namespace troupe::pipelines {
namespace {

constexpr int place_shift = 60;
constexpr std::uint64_t random_part = (std::uint64_t{1} << place_shift) - 1;

const actors::stream_handle& shard_of(const actors::engine_links& links, generation_id id) {
  return links.streams[id % links.streams.size()];
}

generation_id new_id(std::size_t place) {
  std::uint64_t bits = 0;
  while ((bits = random_bits() & random_part) == 0) {
  }
  return (static_cast<std::uint64_t>(place) << place_shift) | bits;
}

void refuse(generation_id id, const std::shared_ptr<event_sink>& sink, error why) {
  event e;
  e.what = event::kind::failed;
  e.generation = id;
  e.why = std::move(why);
  if (sink) sink->on_event(e);
}

}  // namespace

result<void> engine_service::add(served_model model) {
  const std::unique_lock lock(mutex_);
  if (closed_) return error{errc::shutting_down, "the runtime is ending", {}};
  if (models_.size() >= most_models) return error{errc::overloaded, "at most 16 models can be loaded", {}};
  for (const served_model& one : models_)
    if (one.card.name == model.card.name)
      return error{errc::invalid_argument, "a model named " + model.card.name + " is loaded already", {}};
  models_.push_back(std::move(model));
  return {};
}

void engine_service::close() {
  const std::unique_lock lock(mutex_);
  closed_ = true;
  for (served_model& one : models_) one.links.reset();
}

result<submission> engine_service::submit(const std::string& name, request what, std::shared_ptr<event_sink> sink,
                                          std::uint32_t credit, bool keep) {
  return submit(name, std::move(what), nullptr, std::move(sink), credit, keep);
}

result<submission> engine_service::submit(const std::string& name, request what,
                                          std::shared_ptr<const operator_chain> operators,
                                          std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep) {
  const auto submitted = actors::clock::now();
  const std::shared_lock lock(mutex_);  // held while sending: a generation is opened before close() or not at all
  if (closed_) return error{errc::shutting_down, "the server is ending", {}};
  const auto at =
      name.empty() ? models_.begin()
                   : std::find_if(models_.begin(), models_.end(), [&](const auto& m) { return m.card.name == name; });
  if (at == models_.end()) return error{errc::not_found, "there is no model named '" + name + "' here", "model"};

  const path_ends ends{at->card.vocabulary};
  const bool is_chat = std::holds_alternative<chat_prompt>(what.prompt);
  const request_path path = is_chat ? chat_path(ends, std::move(operators), std::move(sink), credit, keep)
                                    : completion_path(ends, std::move(operators), std::move(sink), credit, keep);
  generation_draft draft;
  draft.what = std::move(what);
  if (auto ok = path.join(draft); !ok) return ok.why();

  submission opened{new_id(static_cast<std::size_t>(at - models_.begin())), next_subscription_++};
  caf::anon_send(shard_of(*at->links, opened.generation),
                 actors::open_generation{opened.generation, std::make_shared<const request>(std::move(draft.what)),
                                         opened.subscription, std::move(draft.sink), draft.credit, draft.keep,
                                         submitted, std::move(draft.operators)});
  return opened;
}

std::vector<model_card> engine_service::models() const {
  const std::shared_lock lock(mutex_);
  std::vector<model_card> cards;
  for (const served_model& one : models_) cards.push_back(one.card);
  return cards;
}

subscription_id engine_service::subscribe(generation_id id, std::uint64_t offset, std::shared_ptr<event_sink> sink,
                                          std::uint32_t credit) {
  const subscription_id who = next_subscription_++;
  if (const auto links = links_of(id))
    caf::anon_send(shard_of(*links, id), actors::open_subscription{id, who, offset, std::move(sink), credit});
  else refuse(id, sink, {errc::not_found, "no such generation", {}});
  return who;
}

void engine_service::unsubscribe(generation_id id, subscription_id who) {
  if (const auto links = links_of(id)) caf::anon_send(shard_of(*links, id), actors::close_subscription{id, who});
}

void engine_service::add_credit(generation_id id, subscription_id who, std::uint32_t events) {
  if (const auto links = links_of(id)) caf::anon_send(shard_of(*links, id), actors::grant_credit{id, who, events});
}

// Normal priority for both: they must not overtake the open_generation they are about.
void engine_service::cancel(generation_id id, std::function<void(bool found)> found) {
  if (const auto links = links_of(id))
    caf::anon_send(shard_of(*links, id), actors::cancel_generation{id, std::move(found)});
  else if (found) found(false);
}

// Every model's engine answers, or the caller's time runs out.
void engine_service::check_health(std::function<void(result<void>)> answer) {
  const std::shared_lock lock(mutex_);
  if (closed_ || models_.empty()) {
    error why{errc::not_found, "no model is loaded", {}};
    if (closed_) why = {errc::shutting_down, "the server is ending", {}};
    answer(why);
    return;
  }
  struct round {
    std::function<void(result<void>)> answer;
    std::atomic<std::size_t> left;
    std::atomic<bool> told = false;  // that one is broken
  };
  const auto all = std::make_shared<round>();
  all->answer = std::move(answer);
  all->left = models_.size();
  for (const served_model& one : models_)
    caf::anon_send(one.links->scheduler, actors::probe_engine{[all](const result<void>& healthy) {
                     if (!healthy && !all->told.exchange(true)) all->answer(healthy);
                     if (healthy && --all->left == 0) all->answer({});
                   }});
}

std::string engine_service::metrics_text() const {
  const std::shared_lock lock(mutex_);
  std::string out;
  append_metrics_page(out, models_);
  return out;
}

std::shared_ptr<const actors::engine_links> engine_service::links_of(generation_id id) const {
  const std::shared_lock lock(mutex_);
  const std::size_t place = id >> place_shift;
  return place < models_.size() && !closed_ ? models_[place].links : nullptr;
}

}  // namespace troupe::pipelines
