// Pipelines as values: source >> stage >> troupe::chat(model) >> troupe::hold(8) >> an_operator{} >> sink.
// Edges are typed, so what does not fit does not compile; every edge carries credit, closes and cancels both ways.
//
//   source     from(range), or from(callable that returns optional<T>: nothing is the end)
//   stage      any callable In -> Out, optional<Out> or vector<Out>; on_thread(f) gives it a thread of its own
//   chat       prompts (text or messages) -> an answer: a stage behind it takes std::string (whole) or event (streamed)
//   operator   behind a chat: sees its tokens, with the look-ahead of a hold(n) before it
//   sink       a callable In -> void; closes the pipeline, which runtime::run runs
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <troupe/pipeline_parts.hpp>

namespace troupe {

/// A closed pipeline: nothing goes in or out. A value: it can be copied and run again, each run with its own copies of
/// the stages.
class pipeline {
public:
  explicit pipeline(std::function<void(pipeline_graph&)> build) : build_(std::move(build)) {}
  pipeline_graph built() const {
    pipeline_graph graph;
    build_(graph);
    return graph;
  }

private:
  std::function<void(pipeline_graph&)> build_;
};

/// An open pipeline that yields items of type Out.
template <class Out>
class flow {
public:
  using builder = std::function<std::shared_ptr<edge<Out>>(pipeline_graph&)>;
  explicit flow(builder build) : build_(std::move(build)) {}
  std::shared_ptr<edge<Out>> build(pipeline_graph& graph) const { return build_(graph); }

private:
  builder build_;
};

/// A callable and where it runs.
template <class F>
struct placed_stage {
  F f;
  placement where;
};
template <class F>
placed_stage<F> on_thread(F f) { return {std::move(f), placement::on_thread}; }
template <class F>
placed_stage<F> on_pool(F f) { return {std::move(f), placement::on_pool}; }

template <class F>
inline constexpr bool is_placed = false;
template <class F>
inline constexpr bool is_placed<placed_stage<F>> = true;

template <class F, class In>
concept stage_for = std::copy_constructible<F> && std::invocable<F&, In> && !is_placed<F>;

template <class Out, class F>
flow<Out> make_source(F f) {
  return flow<Out>([f = std::move(f)](pipeline_graph& graph) {
    auto out = std::make_shared<edge<Out>>(pipeline_graph::edge_capacity);
    graph.parts.push_back({std::make_shared<source_part<F, Out>>(f, out), placement::on_pool});
    return out;
  });
}

/// Calls `next` until it returns nothing.
template <std::copy_constructible F>
  requires std::invocable<F&>
auto from(F next) {
  return make_source<typename std::invoke_result_t<F&>::value_type>(std::move(next));
}
template <std::ranges::input_range Range>
auto from(const Range& items) {
  using item = std::ranges::range_value_t<Range>;
  return make_source<item>([all = std::vector<item>(items.begin(), items.end()), at = std::size_t{0}]() mutable {
    return at < all.size() ? std::optional<item>(all[at++]) : std::nullopt;
  });
}

template <class In, class F>
  requires stage_for<F, In>
auto operator>>(flow<In> left, placed_stage<F> stage) {
  using result_type = std::invoke_result_t<F&, In>;
  if constexpr (std::is_void_v<result_type>) {
    return pipeline([left = std::move(left), stage = std::move(stage)](pipeline_graph& graph) {
      graph.parts.push_back({std::make_shared<sink_part<F, In>>(stage.f, left.build(graph)), stage.where});
    });
  } else {
    using item = typename yielded<result_type>::item;
    return flow<item>([left = std::move(left), stage = std::move(stage)](pipeline_graph& graph) {
      auto out = std::make_shared<edge<item>>(pipeline_graph::edge_capacity);
      graph.parts.push_back({std::make_shared<stage_part<F, In, item>>(stage.f, left.build(graph), out), stage.where});
      return out;
    });
  }
}
template <class In, class F>
  requires stage_for<F, In>
auto operator>>(flow<In> left, F f) { return std::move(left) >> on_pool(std::move(f)); }

/// A model as a part of a pipeline.
struct chat {
  explicit chat(model asked_, ask_options options_ = {}) : asked(std::move(asked_)), options(std::move(options_)) {}
  model asked;
  ask_options options;
};

template <class T>
concept prompt_item = std::convertible_to<T, std::string> || std::same_as<T, chat_prompt>;

/// What a chat yields, before it is known whether the next part wants it whole or streamed.
template <class In>
class answers {
public:
  answers(flow<In> left, chat what) : left_(std::move(left)), what_(std::move(what)) {}
  void hold_next(hold held) { held_ = held.tokens; }
  template <token_operator Op>
  void add(Op op) { what_.options.operators.add(std::move(op), std::exchange(held_, 0)); }

  template <class Out>
  flow<Out> as() const {
    return flow<Out>([left = left_, what = what_](pipeline_graph& graph) {
      auto out = std::make_shared<edge<Out>>(pipeline_graph::edge_capacity);
      graph.parts.push_back({std::make_shared<chat_part<In, Out>>(what.asked, what.options, left.build(graph), out), placement::on_pool});
      return out;
    });
  }

private:
  flow<In> left_;
  chat what_;
  std::size_t held_ = 0;
};

template <prompt_item In>
answers<In> operator>>(flow<In> left, chat what) { return {std::move(left), std::move(what)}; }
template <class In>
answers<In> operator>>(answers<In> left, hold held) { return left.hold_next(held), left; }
template <class In, token_operator Op>
answers<In> operator>>(answers<In> left, Op op) { return left.add(std::move(op)), left; }
template <class In>
auto operator>>(answers<In> left, chat next) { return left.template as<std::string>() >> std::move(next); }
template <class In, class F>
  requires(stage_for<F, std::string> || stage_for<F, event>)
auto operator>>(answers<In> left, placed_stage<F> stage) {
  if constexpr (stage_for<F, std::string>)
    return left.template as<std::string>() >> std::move(stage);
  else
    return left.template as<event>() >> std::move(stage);
}
template <class In, class F>
  requires(!token_operator<F> && (stage_for<F, std::string> || stage_for<F, event>))
auto operator>>(answers<In> left, F f) { return std::move(left) >> on_pool(std::move(f)); }

}  // namespace troupe
