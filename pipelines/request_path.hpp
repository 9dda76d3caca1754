// The parts of a request's path through the engine, as typed values. The engine's stages are resident: they were placed
// when the model was loaded, and what travels between them stays inside it (ids and step results, never a message per
// token). What a request brings along is decided here: each part looks at the draft of the generation, adds its share,
// or refuses. Parts that do not follow each other do not compose. Knows no actors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include <troupe/event.hpp>
#include <troupe/operator.hpp>
#include <troupe/request.hpp>
#include <troupe/result.hpp>

namespace troupe::pipelines {

/// A generation about to be opened.
struct generation_draft {
  request what;
  std::shared_ptr<const operator_chain> operators;
  std::shared_ptr<event_sink> sink;
  std::uint32_t credit = 0;
  bool keep = false;
};

/// What a loaded model offers to the paths.
struct path_ends {
  std::int32_t vocabulary = 0;
};

// What travels between two parts.
struct asked {};       ///< a request as a client wrote it
struct accepted {};    ///< one whose fields are in range
struct encoded {};     ///< token ids and terms (encode_prompt -> admit_sequence)
struct sampled {};     ///< one id per step (step_tokens)
struct assembled {};   ///< text, log-probabilities, offsets: the token log
struct subscribed {};  ///< events, paid for by credit

template <class In, class Out>
struct path {
  std::function<result<void>(generation_draft&)> join;
};

template <class A, class B, class C>
path<A, C> operator>>(path<A, B> left, path<B, C> right) {
  return {[left = std::move(left), right = std::move(right)](generation_draft& draft) -> result<void> {
    if (auto ok = left.join(draft); !ok) return ok;
    return right.join(draft);
  }};
}

using request_path = path<asked, subscribed>;

/// Fields in range, and the prompt of the path's kind.
path<asked, accepted> accept_chat();
path<asked, accepted> accept_completion();
/// Template and tokenizer. Ids outside the vocabulary are refused here, before anything is queued.
path<accepted, encoded> encode(const path_ends& model);
/// Scheduler, prefill, decode and sampler. A request without a seed gets one.
path<encoded, sampled> generate();
/// Detokeniser, stop strings, operators, log: inside the stream shard. `operators` may be null.
path<sampled, assembled> assemble(std::shared_ptr<const operator_chain> operators);
/// The first of those who watch. Its credit reaches back to generate, which pauses when all are far behind.
path<assembled, subscribed> subscribers(std::shared_ptr<event_sink> first, std::uint32_t credit, bool keep);

// The dataflows, a page each.
request_path chat_path(const path_ends& model, std::shared_ptr<const operator_chain> operators,
                       std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep);
request_path completion_path(const path_ends& model, std::shared_ptr<const operator_chain> operators,
                             std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep);

/// 64 random bits from the operating system, never 0.
std::uint64_t random_bits();

}  // namespace troupe::pipelines
