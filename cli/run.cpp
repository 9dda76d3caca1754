// `troupe run`: one prompt, one answer. Only the answer's text goes to stdout.
#include <iostream>

#include "cli/answer.hpp"
#include "cli/engine.hpp"
#include "cli/json_lines.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/signals.hpp"

namespace troupe::cli {
namespace {

generation ask(const troupe::model& model, const answer_options& o, std::string prompt) {
  if (o.raw) return model.complete(std::move(prompt), to_ask(o));
  chat_prompt messages;
  if (!o.system.empty()) messages.push_back({"system", o.system});
  messages.push_back({"user", std::move(prompt)});
  return model.chat(std::move(messages), to_ask(o));
}

}  // namespace

int run(const answer_options& options) {
  const signal_block block;
  auto engine = start_engine(options.engine);
  if (!engine) return report(engine.why());
  std::string prompt = options.prompt.empty() || options.prompt == "-" ? read_standard_input() : options.prompt;
  try {
    generation answer = ask(engine->model, options, std::move(prompt));
    const signal_watch watch(block, [&](int) { answer.cancel(); });
    const answered all = stream_answer(answer);
    std::cout << std::endl;
    std::cerr << "[" << all.figures << "]\n";
    return all.reason == finish_reason::cancelled ? 130 : 0;
  } catch (const failure& e) {
    return report(e.why());
  }
}

}  // namespace troupe::cli
