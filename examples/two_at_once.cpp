// Two answers at the same time, read by turns; the second is cancelled after a few tokens.
//   two_at_once [model]
#include <iostream>
#include <string>

#include <troupe/troupe.hpp>

namespace {

void show(const char* name, const troupe::event& e) {
  if (e.what == troupe::event::kind::done)
    std::cout << '\n' << name << " ended: " << to_string(e.reason) << ", " << e.usage.completion_tokens << " tokens\n";
  else std::cout << e.text << std::flush;
}

}  // namespace

int main(int argc, char** argv) try {
  troupe::runtime runtime;
  auto model = runtime.load(argc > 1 ? argv[1] : "smollm2-135m-instruct");

  troupe::ask_options options;
  options.max_tokens = 60;
  options.how.seed = 7;
  auto rivers = model.chat("Name three rivers.", options);
  options.max_tokens = {};
  options.ignore_eos = true;  // it would go on to the end of its context
  auto story = model.chat("Tell me a very long story.", options);

  // Both are computed in the same batch, whichever is read. What is not read is not computed far ahead.
  std::string begun;
  while (begun.size() < 80) {
    const auto e = story.next();
    if (!e) break;
    begun += e->text;
    show("story", *e);
  }
  std::cout << " ...\n";
  story.cancel();
  while (const auto e = story.next())
    if (e->what == troupe::event::kind::done) show("story", *e);

  while (const auto e = rivers.next()) show("rivers", *e);
} catch (const troupe::failure& f) {
  std::cerr << "two_at_once: " << f.what() << '\n';
  return 1;
}
