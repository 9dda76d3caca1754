// Errors as a person reads them.
#include "cli/report.hpp"

#include <unistd.h>

#include <cstdlib>
#include <iostream>

namespace troupe::cli {

bool coloured(int fd) { return isatty(fd) != 0 && std::getenv("NO_COLOR") == nullptr; }

int report(const error& why) {
  const bool colour = coloured(2);
  std::cerr << (colour ? "\033[1;31merror:\033[0m " : "error: ") << why.text << '\n';
  return 1;
}

}  // namespace troupe::cli
