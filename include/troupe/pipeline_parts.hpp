// What runs in a pipeline: parts that advance without blocking, joined by edges. Users write pipeline.hpp's
// expressions; these are what the expressions build. Knows no actors: pipelines/pipeline_run.cpp places parts on them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <troupe/edge.hpp>
#include <troupe/runtime.hpp>

namespace troupe {

/// One piece of a running pipeline. One call at a time, on any thread.
class part {
public:
  enum class progress { more, waiting, finished };
  virtual ~part() = default;
  /// Called once, before anything else; `wake` asks for another advance() and may be called from any thread.
  virtual void on_wake(std::function<void()> wake) = 0;
  /// Some work, bounded by a batch. May throw what the user's code throws.
  virtual progress advance() = 0;
  /// Gives up, both ways: cancels what comes in and closes what goes out.
  virtual void abandon() = 0;
};

enum class placement {
  on_pool,   ///< an actor on the shared pool: short, never blocking
  on_thread  ///< an actor with a thread of its own: may block
};

/// The parts of one run, as a pipeline value builds them.
struct pipeline_graph {
  struct placed {
    std::shared_ptr<part> what;
    placement where = placement::on_pool;
  };
  std::vector<placed> parts;
  static constexpr std::size_t edge_capacity = 64;
  static constexpr std::size_t batch = 16;
};

/// What a stage's result means as items: T is one, optional<T> none or one, vector<T> as many.
template <class R>
struct yielded {
  using item = R;
  static void into(std::vector<item>& out, R&& r) { out.push_back(std::move(r)); }
};
template <class T>
struct yielded<std::optional<T>> {
  using item = T;
  static void into(std::vector<T>& out, std::optional<T>&& r) {
    if (r) out.push_back(*std::move(r));
  }
};
template <class T>
struct yielded<std::vector<T>> {
  using item = T;
  static void into(std::vector<T>& out, std::vector<T>&& r) {
    out.insert(out.end(), std::make_move_iterator(r.begin()), std::make_move_iterator(r.end()));
  }
};

template <class F, class Out>
class source_part final : public part {
public:
  source_part(F f, std::shared_ptr<edge<Out>> out) : f_(std::move(f)), out_(std::move(out)) {}
  void on_wake(std::function<void()> wake) override { out_->on_room(std::move(wake)); }
  void abandon() override { out_->close(); }
  progress advance() override {
    while (!at_end_ && pending_.size() < pipeline_graph::batch) {
      auto item = f_();
      at_end_ = !item;
      if (item) pending_.push_back(*std::move(item));
    }
    out_->offer(pending_);
    if (out_->cancelled()) return progress::finished;
    if (!pending_.empty()) return progress::waiting;
    if (!at_end_) return progress::more;
    out_->close();
    return progress::finished;
  }

private:
  F f_;
  std::shared_ptr<edge<Out>> out_;
  std::vector<Out> pending_;
  bool at_end_ = false;
};

template <class F, class In, class Out>
class stage_part final : public part {
public:
  stage_part(F f, std::shared_ptr<edge<In>> in, std::shared_ptr<edge<Out>> out)
      : f_(std::move(f)), in_(std::move(in)), out_(std::move(out)) {}
  void on_wake(std::function<void()> wake) override {
    in_->on_items(wake);
    out_->on_room(std::move(wake));
  }
  void abandon() override {
    in_->cancel();
    out_->close();
  }
  progress advance() override {
    out_->offer(pending_);
    if (out_->cancelled()) return in_->cancel(), progress::finished;
    if (!pending_.empty()) return progress::waiting;
    std::vector<In> items;
    if (in_->take(items, pipeline_graph::batch) == 0) {
      if (!in_->finished()) return progress::waiting;
      out_->close();
      return progress::finished;
    }
    using result_type = std::invoke_result_t<F&, In>;
    for (In& item : items) yielded<result_type>::into(pending_, f_(std::move(item)));
    return progress::more;
  }

private:
  F f_;
  std::shared_ptr<edge<In>> in_;
  std::shared_ptr<edge<Out>> out_;
  std::vector<Out> pending_;
};

template <class F, class In>
class sink_part final : public part {
public:
  sink_part(F f, std::shared_ptr<edge<In>> in) : f_(std::move(f)), in_(std::move(in)) {}
  void on_wake(std::function<void()> wake) override { in_->on_items(std::move(wake)); }
  void abandon() override { in_->cancel(); }
  progress advance() override {
    std::vector<In> items;
    if (in_->take(items, pipeline_graph::batch) == 0) return in_->finished() ? progress::finished : progress::waiting;
    for (In& item : items) f_(std::move(item));
    return progress::more;
  }

private:
  F f_;
  std::shared_ptr<edge<In>> in_;
};

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
    if constexpr (std::is_same_v<Out, std::string>)
      text_ += e.text;
    else
      pending_.push_back(std::move(e));
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
