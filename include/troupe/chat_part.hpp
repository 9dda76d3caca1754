// A model as a part of a running pipeline. Knows no actors.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <troupe/pipeline_parts.hpp>
#include <troupe/runtime.hpp>

namespace troupe {

/// A model in a pipeline: one prompt at a time, its answer as events (Out = event) or whole (Out = std::string). The
/// edge's credit reaches the decode step through the generation's reader.
template <class In, class Out>
class chat_part final : public part {
public:
  chat_part(model asked, ask_options options, std::shared_ptr<edge<In>> in, std::shared_ptr<edge<Out>> out)
      : model_(std::move(asked)), options_(std::move(options)), in_(std::move(in)), out_(std::move(out)) {}
  void on_wake(std::function<void()> wake) override {
    in_->on_items(wake);
    out_->on_room(wake);
    wake_ = std::move(wake);
  }
  void abandon() override {
    answer_.reset();
    in_->cancel();
    out_->close();
  }
  progress advance() override {
    out_->offer(pending_);
    if (out_->cancelled()) return abandon(), progress::finished;
    if (!pending_.empty()) return progress::waiting;
    if (!answer_) return next_prompt();
    std::optional<event> e;
    while (pending_.size() < pipeline_graph::batch && (e = answer_->poll())) collect(*std::move(e));
    if (answer_->ended()) {
      if constexpr (std::is_same_v<Out, std::string>) pending_.push_back(std::exchange(text_, {}));
      answer_.reset();
      return progress::more;
    }
    return pending_.empty() && !e ? progress::waiting : progress::more;
  }

private:
  progress next_prompt() {
    std::vector<In> items;
    if (in_->take(items, 1) == 0) {
      if (!in_->finished()) return progress::waiting;
      out_->close();
      return progress::finished;
    }
    answer_.emplace(model_.chat(std::move(items.front()), options_));
    answer_->on_ready(wake_);
    return progress::more;
  }
  void collect(event&& e) {
    if (e.what == event::kind::failed) throw failure(std::move(e.why));
    if constexpr (std::is_same_v<Out, std::string>) text_ += e.text;
    else pending_.push_back(std::move(e));
  }

  model model_;
  ask_options options_;
  std::shared_ptr<edge<In>> in_;
  std::shared_ptr<edge<Out>> out_;
  std::function<void()> wake_;
  std::optional<generation> answer_;
  std::vector<Out> pending_;
  std::string text_;
};

}  // namespace troupe
