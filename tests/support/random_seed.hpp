// What a test's random numbers begin from: the same in every run, so that who changes nothing sees nothing change.
#pragma once

#include <cstdlib>

namespace troupe::test {

/// $TROUPE_TEST_SEED where it is set: `for i in $(seq 50); do TROUPE_TEST_SEED=$i ctest ...; done` looks further.
inline unsigned random_seed() {
  const char* asked = std::getenv("TROUPE_TEST_SEED");
  return asked == nullptr ? 1 : static_cast<unsigned>(std::strtoul(asked, nullptr, 10));
}

}  // namespace troupe::test
