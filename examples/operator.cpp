// A pipeline with an operator: questions >> model >> look-ahead >> redaction >> print. The operator rewrites the token
// stream while it comes; with eight tokens of look-ahead it sees a whole word before it lets its first piece go.
//   operator [model]
#include <algorithm>
#include <cctype>
#include <iostream>
#include <string>
#include <vector>

#include <troupe/troupe.hpp>

namespace {

bool is_word(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c); });
}

/// Words of five letters and more become stars of the same length; how many is counted for each answer.
struct redact_long_words {
  int redacted = 0;

  void operator()(troupe::token_window& window) {
    // A word is its first token, which may begin with a space, and all tokens of letters that follow.
    const std::string& first = window[0].text;
    const std::string blank = !first.empty() && first[0] == ' ' ? " " : "";
    std::string word = first.substr(blank.size());
    if (!is_word(word)) return window.pass();

    std::size_t tokens = 1;
    for (; tokens < window.size() && is_word(window[tokens].text); ++tokens) word += window[tokens].text;
    if (word.size() < 5) return window.pass(tokens);
    ++redacted;
    window.rewrite(tokens, blank + std::string(word.size(), '*'));
  }
};

}  // namespace

int main(int argc, char** argv) try {
  troupe::runtime runtime;
  auto model = runtime.load(argc > 1 ? argv[1] : "smollm2-135m-instruct");

  const std::vector<std::string> questions = {"Name three rivers.", "Why is the sky blue?"};
  troupe::ask_options options;
  options.max_tokens = 60;
  options.how.temperature = 0;

  auto shout = [](std::string question) {
    std::cout << "> " << question << '\n';
    return question;
  };
  auto print = [](const std::string& answer) { std::cout << answer << "\n\n"; };

  // Edges are typed: leave the model out and this does not compile, for an operator belongs behind one.
  const auto pipeline = troupe::from(questions) >> shout >> troupe::chat(model, options) >> troupe::hold(8) >>
                        redact_long_words{} >> troupe::on_thread(print);
  const auto ended = runtime.run(pipeline);
  if (!ended) {
    std::cerr << "operator: " << ended.why().text << '\n';
    return 1;
  }
} catch (const troupe::failure& f) {
  std::cerr << "operator: " << f.what() << '\n';
  return 1;
}
