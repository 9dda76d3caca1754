// Asking the model from a terminal: what `chat` and `run` share.
#pragma once

#include <iosfwd>
#include <string>

#include <troupe/runtime.hpp>

#include "cli/options.hpp"

namespace troupe::cli {

ask_options to_ask(const answer_options& options);

struct answered {
  std::string text;
  finish_reason reason = finish_reason::stop;
  std::string figures;  ///< "42 tokens, first after 31 ms, 210.5 tokens/s"
};

/// Streams the answer to stdout as it comes. Throws `failure`.
answered stream_answer(generation& answer);

}  // namespace troupe::cli
