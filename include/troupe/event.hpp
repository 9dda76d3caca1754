// What a generation says, and who listens. Plain values and one small interface.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <troupe/result.hpp>

namespace troupe {

using generation_id = std::uint64_t;  ///< unguessable (random 64 bits), never 0

enum class finish_reason { stop, length, cancelled };
std::string_view to_string(finish_reason reason) noexcept;

struct usage {
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;  ///< of the prompt, found in the prefix cache
  std::int32_t completion_tokens = 0;
};

/// Milliseconds since submit, on a monotonic clock.
struct timing {
  double queued_ms = 0;       ///< until the first prefill step began
  double first_token_ms = 0;  ///< TTFT as the engine sees it
  double total_ms = 0;
};

struct token_logprob {
  std::int32_t id = 0;
  std::string bytes;                               ///< the token's own bytes; may be part of a code point
  float logprob = 0.0f;                            ///< natural log
  std::vector<std::pair<std::string, float>> top;  ///< the best alternatives: bytes, log-probability
  std::vector<std::int32_t> top_ids;
};

/// One event of a generation: `started` once, then any number of `delta`, then exactly one of `done` and `failed`.
/// Offsets count entries of the token log: a delta covers [offset, next_offset), and a subscription opened at
/// next_offset goes on right behind it. Concatenated delta texts are valid UTF-8 at every border.
struct event {
  enum class kind { started, delta, done, failed };
  kind what = kind::delta;
  generation_id generation = 0;
  std::uint64_t offset = 0;
  std::uint64_t next_offset = 0;
  std::string text;                            ///< delta
  std::vector<token_logprob> logprobs;         ///< delta, where asked for
  finish_reason reason = finish_reason::stop;  ///< done
  troupe::usage usage;                         ///< started (prompt_tokens) and done
  troupe::timing timing;                       ///< done
  error why;                                   ///< failed
};

/// Receives a subscription's events in order, one call at a time, on a thread of the runtime: must not block and
/// must not throw. Kept alive by the runtime until the last event or unsubscribe.
class event_sink {
public:
  virtual ~event_sink() = default;
  virtual void on_event(const event& e) = 0;
};

}  // namespace troupe
