// A model in a pipeline. Before it go prompts (text or messages); behind it its answers, whole where the next stage
// takes std::string, as they come where it takes events; between both, operators, which see its tokens with the
// look-ahead of a hold(n) before them.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <utility>

#include <troupe/chat_part.hpp>
#include <troupe/operator.hpp>
#include <troupe/pipeline.hpp>

namespace troupe {

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
  void add(Op op) {
    what_.options.operators.add(std::move(op), std::exchange(held_, 0));
  }

  template <class Out>
  flow<Out> as() const {
    return flow<Out>([left = left_, what = what_](pipeline_graph& graph) {
      auto out = std::make_shared<edge<Out>>(pipeline_graph::edge_capacity);
      graph.parts.push_back(
          {std::make_shared<chat_part<In, Out>>(what.asked, what.options, left.build(graph), out), placement::on_pool});
      return out;
    });
  }

private:
  flow<In> left_;
  chat what_;
  std::size_t held_ = 0;
};

template <prompt_item In>
answers<In> operator>>(flow<In> left, chat what) {
  return {std::move(left), std::move(what)};
}
template <class In>
answers<In> operator>>(answers<In> left, hold held) {
  return left.hold_next(held), left;
}
template <class In, token_operator Op>
answers<In> operator>>(answers<In> left, Op op) {
  return left.add(std::move(op)), left;
}
template <class In>
auto operator>>(answers<In> left, chat next) {
  return left.template as<std::string>() >> std::move(next);
}
template <class In, class F>
  requires(stage_for<F, std::string> || stage_for<F, event>)
auto operator>>(answers<In> left, placed_stage<F> stage) {
  if constexpr (stage_for<F, std::string>) return left.template as<std::string>() >> std::move(stage);
  else return left.template as<event>() >> std::move(stage);
}
template <class In, class F>
  requires(!token_operator<F> && (stage_for<F, std::string> || stage_for<F, event>))
auto operator>>(answers<In> left, F f) {
  return std::move(left) >> on_pool(std::move(f));
}

}  // namespace troupe
