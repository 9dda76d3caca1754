// Pipelines as values: source >> stage >> troupe::chat(model) >> troupe::hold(8) >> an_operator{} >> sink.
// Edges are typed, so what does not fit does not compile; every edge carries credit, closes and cancels both ways.
//
//   source     from(range), or from(callable that returns optional<T>: nothing is the end)
//   stage      any callable In -> Out, optional<Out> or vector<Out>
//   chat       a model (chat.hpp), and behind it operators
//   sink       a callable In -> void; closes the pipeline, which runtime::run runs
//
// Stages run on a pool that all share and must not block there. on_thread(f) gives a stage or a source a thread of its
// own: it may wait, and what such a source has found goes on at once.
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
placed_stage<F> on_thread(F f) {
  return {std::move(f), placement::on_thread};
}
template <class F>
placed_stage<F> on_pool(F f) {
  return {std::move(f), placement::on_pool};
}

template <class F>
inline constexpr bool is_placed = false;
template <class F>
inline constexpr bool is_placed<placed_stage<F>> = true;

template <class F, class In>
concept stage_for = std::copy_constructible<F> && std::invocable<F&, In> && !is_placed<F>;

/// Calls `next` until it returns nothing.
template <std::copy_constructible F>
  requires std::invocable<F&>
auto from(placed_stage<F> next) {
  using item = typename std::invoke_result_t<F&>::value_type;
  return flow<item>([next = std::move(next)](pipeline_graph& graph) {
    auto out = std::make_shared<edge<item>>(pipeline_graph::edge_capacity);
    const std::size_t at_once = next.where == placement::on_thread ? 1 : pipeline_graph::batch;
    graph.parts.push_back({std::make_shared<source_part<F, item>>(next.f, out, at_once), next.where});
    return out;
  });
}
template <std::copy_constructible F>
  requires std::invocable<F&>
auto from(F next) {
  return from(on_pool(std::move(next)));
}
template <std::ranges::input_range Range>
auto from(const Range& items) {
  using item = std::ranges::range_value_t<Range>;
  return from([all = std::vector<item>(items.begin(), items.end()), at = std::size_t{0}]() mutable {
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
auto operator>>(flow<In> left, F f) {
  return std::move(left) >> on_pool(std::move(f));
}

}  // namespace troupe
