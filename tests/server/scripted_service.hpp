// A service whose generations are produced by hand, step by step, from the test's thread. Knows no model.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>

#include <troupe/service.hpp>

namespace troupe::server {

class scripted_service final : public service {
public:
  struct watcher {
    generation_id generation = 0;
    std::uint64_t cursor = 0;
    std::shared_ptr<event_sink> sink;
    std::int64_t credit = 0;
    bool told_start = false;
  };
  struct generation {
    request asked;
    std::string model;
    bool keep = false, started = false, over = false;
    std::vector<std::string> log;  ///< one entry a token
    event last;                    ///< done or failed
  };

  std::vector<model_card> models() const override {
    return {{"small", 1700000000, 8192, 49152}, {"large", 1700000001, 131072, 49152}};
  }

  result<submission> submit(const std::string& name, request what, std::shared_ptr<event_sink> sink,
                            std::uint32_t credit, bool keep) override {
    const std::scoped_lock lock(guard_);
    if (broken) throw std::runtime_error("broken on purpose");
    if (refuse_with) return *refuse_with;
    if (!name.empty() && name != "small" && name != "large")
      return error{errc::not_found, "No model is named " + name + ".", "model"};
    const generation_id id = 0xabc0 + ++made_;
    generations_[id] = {std::move(what), name, keep, false, false, {}, {}};
    watchers_[++subscriptions_] = {id, 0, std::move(sink), credit, false};
    changed_.notify_all();
    return submission{id, subscriptions_};
  }

  subscription_id subscribe(generation_id id, std::uint64_t offset, std::shared_ptr<event_sink> sink,
                            std::uint32_t credit) override {
    const std::scoped_lock lock(guard_);
    watchers_[++subscriptions_] = {id, offset, std::move(sink), credit, false};
    feed(subscriptions_);
    changed_.notify_all();
    return subscriptions_;
  }

  void unsubscribe(generation_id id, subscription_id who) override {
    const std::scoped_lock lock(guard_);
    watchers_.erase(who);
    const bool watched =
        std::any_of(watchers_.begin(), watchers_.end(), [id](const auto& w) { return w.second.generation == id; });
    if (const auto it = generations_.find(id);
        it != generations_.end() && !watched && !it->second.keep && !it->second.over)
      end_locked(id, finish_reason::cancelled);
    changed_.notify_all();
  }

  void add_credit(generation_id, subscription_id who, std::uint32_t events) override {
    const std::scoped_lock lock(guard_);
    const auto it = watchers_.find(who);
    if (it == watchers_.end()) return;
    it->second.credit += events;
    feed(who);
    changed_.notify_all();
  }

  void cancel(generation_id id, std::function<void(bool)> found) override {
    bool there = false;
    {
      const std::scoped_lock lock(guard_);
      const auto it = generations_.find(id);
      there = it != generations_.end() && !it->second.over;
      if (there) end_locked(id, finish_reason::cancelled);
      changed_.notify_all();
    }
    if (found) found(there);
  }

  void check_health(std::function<void(result<void>)> answer) override {
    if (!hung) answer(result<void>());
  }
  std::string metrics_text() const override { return "troupe_scripted 1\n"; }

  // --- the script ---
  /// The n-th generation (from 1), once it has been submitted.
  generation_id wait_for(std::uint64_t n) {
    wait([&] { return made_ >= n; });
    return 0xabc0 + n;
  }
  request asked(generation_id id) {
    const std::scoped_lock lock(guard_);
    return generations_.at(id).asked;
  }
  void start(generation_id id) {
    const std::scoped_lock lock(guard_);
    generations_.at(id).started = true;
    feed_all(id);
  }
  void token(generation_id id, std::string text) {
    const std::scoped_lock lock(guard_);
    generations_.at(id).log.push_back(std::move(text));
    feed_all(id);
  }
  void finish(generation_id id, finish_reason reason = finish_reason::stop) {
    const std::scoped_lock lock(guard_);
    end_locked(id, reason);
  }
  void fail(generation_id id, error why) {
    const std::scoped_lock lock(guard_);
    auto& g = generations_.at(id);
    g.over = g.started = true;
    g.last.what = event::kind::failed;
    g.last.why = std::move(why);
    feed_all(id);
  }
  void wait_until_over(generation_id id) {
    wait([&] { return generations_.at(id).over; });
  }
  void wait_for_watchers(std::size_t n) {
    wait([&] { return watchers_.size() == n; });
  }
  finish_reason reason(generation_id id) {
    const std::scoped_lock lock(guard_);
    return generations_.at(id).last.reason;
  }
  std::int64_t credit_of_first() {
    const std::scoped_lock lock(guard_);
    return watchers_.empty() ? -1 : watchers_.begin()->second.credit;
  }
  std::uint64_t submitted() {
    const std::scoped_lock lock(guard_);
    return made_;
  }

  std::optional<error> refuse_with;  ///< set before the request
  std::atomic<bool> hung{false};
  std::atomic<bool> broken{false};  ///< submit() throws
  bool with_logprobs = true;

private:
  template <class Ready>
  void wait(Ready ready) {
    std::unique_lock lock(guard_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), ready))
      throw std::runtime_error("the script waited in vain");
  }

  void end_locked(generation_id id, finish_reason reason) {
    auto& g = generations_.at(id);
    if (g.over) return;
    g.over = g.started = true;
    g.last.what = event::kind::done;
    g.last.reason = reason;
    g.last.usage = {7, 2, static_cast<std::int32_t>(g.log.size())};
    g.last.timing = {1, 2, 3};
    feed_all(id);
    changed_.notify_all();
  }

  void feed_all(generation_id id) {
    std::vector<subscription_id> whom;
    for (const auto& [who, w] : watchers_)
      if (w.generation == id) whom.push_back(who);
    for (auto who : whom) feed(who);
  }

  /// Gives one watcher what its credit allows: the whole rest of the log joined into one delta.
  void feed(subscription_id who) {
    auto& w = watchers_.at(who);
    const auto it = generations_.find(w.generation);
    event e;
    e.generation = w.generation;
    if (it == generations_.end()) {
      e.what = event::kind::failed;
      e.why = {errc::not_found, "There is no such generation.", "id"};
      return give_last(who, e);
    }
    auto& g = it->second;
    if (w.cursor > g.log.size()) {
      e.what = event::kind::failed;
      e.why = {errc::invalid_argument, "The log is shorter than that.", "offset"};
      return give_last(who, e);
    }
    if (!g.started) return;
    if (g.last.what == event::kind::failed) return give_last(who, g.last);
    if (!w.told_start && w.credit > 0) {
      e.what = event::kind::started;
      e.usage.prompt_tokens = 7;
      w.told_start = true;
      --w.credit;
      w.sink->on_event(e);
    }
    if (w.cursor < g.log.size() && w.credit > 0) {
      e = {};
      e.generation = w.generation;
      e.offset = w.cursor;
      for (; w.cursor < g.log.size(); ++w.cursor) {
        e.text += g.log[w.cursor];
        if (g.asked.top_logprobs >= 0)
          e.logprobs.push_back(
              {static_cast<std::int32_t>(w.cursor), g.log[w.cursor], -0.5f, {{g.log[w.cursor], -0.5f}}, {3}});
      }
      e.next_offset = w.cursor;
      --w.credit;
      w.sink->on_event(e);
    }
    if (g.over && w.cursor == g.log.size()) {
      g.last.generation = w.generation;
      g.last.offset = g.last.next_offset = w.cursor;
      give_last(who, g.last);
    }
  }

  void give_last(subscription_id who, const event& e) {
    const auto sink = watchers_.at(who).sink;
    watchers_.erase(who);
    sink->on_event(e);
    changed_.notify_all();
  }

  mutable std::mutex guard_;
  std::condition_variable changed_;
  std::map<generation_id, generation> generations_;
  std::map<subscription_id, watcher> watchers_;
  std::uint64_t made_ = 0, subscriptions_ = 0;
};

}  // namespace troupe::server
