// How commands end badly: one sentence on stderr and exit status 1. Colour only on a terminal.
#pragma once

#include <troupe/result.hpp>

namespace troupe::cli {

/// Prints "error: ..." and returns 1.
int report(const error& why);

/// Whether stderr (fd 2) or stdout (fd 1) is a terminal that wants colour.
bool coloured(int fd);

}  // namespace troupe::cli
