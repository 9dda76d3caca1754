// A pipeline of stages around a model: lines >> split >> retrieve >> model >> show. What a stage returns says how many
// items go on: a vector many, an optional one or none, anything else one. The last stage sees answers as they come.
//   pipeline [model]
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <troupe/troupe.hpp>

namespace {

/// "Rivers? Sky?" is two questions.
std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> questions;
  for (std::size_t at = 0, end = 0; (end = line.find('?', at)) != std::string::npos; at = end + 1)
    questions.push_back(line.substr(line.find_first_not_of(' ', at), end + 1 - line.find_first_not_of(' ', at)));
  return questions;
}

/// Puts what is known before the question; one of which nothing is known goes no further.
struct retrieve {
  std::map<std::string, std::string> notes;

  std::optional<troupe::chat_prompt> operator()(const std::string& question) const {
    for (const auto& [word, note] : notes)
      if (question.find(word) != std::string::npos) return troupe::chat_prompt{{"system", note}, {"user", question}};
    return std::nullopt;
  }
};

}  // namespace

int main(int argc, char** argv) try {
  troupe::runtime runtime;
  auto model = runtime.load(argc > 1 ? argv[1] : "smollm2-135m-instruct");

  const std::vector<std::string> lines = {"Which rivers are long? Who wrote this?", "Why is the sky blue?"};
  const retrieve known{{{"rivers", "The Danube is longer than the Rhine."}, {"sky", "Air scatters blue light most."}}};
  troupe::ask_options options;
  options.max_tokens = 40;

  // Each part is an actor, and edges have room for a few items only: a slow `show` stops the model and fills no memory.
  int answers = 0;
  auto show = [&answers](const troupe::event& e) {
    std::cout << e.text << std::flush;
    if (e.what == troupe::event::kind::done) std::cout << "\n--- answer " << ++answers << '\n';
  };
  const auto ended =
      runtime.run(troupe::from(lines) >> split >> known >> troupe::chat(model, options) >> troupe::on_thread(show));
  if (!ended) throw troupe::failure(ended.why());
} catch (const troupe::failure& f) {
  std::cerr << "pipeline: " << f.what() << '\n';
  return 1;
}
