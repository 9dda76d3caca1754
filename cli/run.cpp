// `troupe run`: one prompt, one answer. Only the answer's text goes to stdout.
#include <unistd.h>

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

std::string prompt_of(const answer_options& o) {
  if (!o.prompt.empty() && o.prompt != "-") return o.prompt;
  if (isatty(STDIN_FILENO)) std::cerr << "Type the prompt; Ctrl-D on a line of its own ends it." << std::endl;
  return read_standard_input();
}

}  // namespace

int run(const answer_options& options) {
  std::string prompt = prompt_of(options);  // until here a signal just ends the process
  if (prompt.find_first_not_of(" \t\r\n") == prompt.npos)
    return report({errc::invalid_argument, "There is no prompt: give one in quotes, or on standard input.", "prompt"});
  const signal_block block;
  auto engine = [&] {
    const signal_watch loading(block, [](int) { _exit(130); });
    return start_engine(options.engine);
  }();
  if (!engine) return report(engine.why());
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
