// Asks a model one question and prints the answer as it comes.
//   hello [model] [question]
#include <iostream>

#include <troupe/troupe.hpp>

int main(int argc, char** argv) try {
  troupe::runtime runtime;  // devices, threads, actors
  // A catalogue name or a GGUF file.
  auto model = runtime.load(argc > 1 ? argv[1] : "smollm2-135m-instruct");

  troupe::ask_options options;
  options.max_tokens = 100;
  for (const auto& event : model.chat({{"user", argc > 2 ? argv[2] : "Name three rivers."}}, options))
    std::cout << event.text << std::flush;
  std::cout << '\n';
} catch (const troupe::failure& f) {
  std::cerr << "hello: " << f.what() << '\n';
  return 1;
}
