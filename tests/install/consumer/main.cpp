// Uses an installed Troupe: starts a runtime and is told, as a value, that a model is not there.
#include <iostream>

#include <troupe/troupe.hpp>

int main() {
  troupe::runtime runtime;
  const auto model = runtime.try_load("./no-such-model.gguf");
  if (model.ok() || model.why().code != troupe::errc::not_found) {
    std::cerr << "expected not_found\n";
    return 1;
  }
  std::cout << model.why().text << '\n';
}
