// What pipeline.hpp's expressions build: parts that advance without blocking, joined by edges. Knows no model
// (chat_part.hpp does) and no actors: pipelines/pipeline_run.cpp places parts on them.
#pragma once

#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <troupe/edge.hpp>

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
  /// `at_once`: items found before they go on.
  source_part(F f, std::shared_ptr<edge<Out>> out, std::size_t at_once)
      : f_(std::move(f)), out_(std::move(out)), at_once_(at_once) {}
  void on_wake(std::function<void()> wake) override { out_->on_room(std::move(wake)); }
  void abandon() override { out_->close(); }
  progress advance() override {
    while (!at_end_ && pending_.size() < at_once_) {
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
  std::size_t at_once_;
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

}  // namespace troupe
