// The mask TROUPE_ISA: what it hides is not offered, is refused when asked for, and is never executed. The last is seen
// from outside: a child that computes products is stepped instruction by instruction.
#include "support/catch.hpp"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

namespace {

/// Sets the variable for one test and puts back what was there: the whole run may be masked.
struct mask {
  explicit mask(const char* value) {
    if (const char* old = std::getenv("TROUPE_ISA")) before = old;
    set(value);
  }
  ~mask() { set(before ? before->c_str() : nullptr); }
  mask(const mask&) = delete;
  mask& operator=(const mask&) = delete;
  static void set(const char* value) { value == nullptr ? ::unsetenv("TROUPE_ISA") : ::setenv("TROUPE_ISA", value, 1); }
  std::optional<std::string> before;
};

}  // namespace

TEST_CASE("the mask hides every better instruction set") {
  for (const char* best : {"scalar", "avx2", "avx_vnni"}) {
    const mask masked(best);
    const isa most = *parse_isa(best);
    for (const isa which : available_isas()) CHECK(which <= most);
    CHECK(best_isa() <= most);
    CHECK_FALSE(machine_has(isa::avx512vnni));
    CHECK(make_cpu_lane({1, isa::avx512vnni, true}).why().code == errc::unsupported);
  }
}

TEST_CASE("a mask that names no instruction set hides nothing") {
  const auto all = [] {
    const mask none(nullptr);
    return available_isas();
  }();
  for (const char* word : {"", "avx9", "AVX2"}) {
    const mask masked(word);
    CHECK(available_isas() == all);
  }
}

#if defined(__x86_64__)

namespace {

/// A product of each kind with the norm before it, on the best instruction set that the mask leaves.
struct small_step {
  std::unique_ptr<cpu_lane> lane = make_cpu_lane({1, best_isa(), true}).value_or_throw();
  random_source random{1};
  stored nibbles{dtype::q4_0, 16, 32, random}, halves{dtype::bf16, 16, 32, random};
  dense x{1, 32, random}, gain{1, 32, random}, scratch{1, 32}, out{1, 16};
  matrix first = lane->pack(std::vector{nibbles.view()}).value_or_throw();
  matrix second = lane->pack(std::vector{halves.view()}).value_or_throw();

  void run() {
    lane->norm_linear(x.view(), gain.view(), 1e-5f, *first, scratch.view(), out.view());
    lane->linear(*second, x.view(), out.view());
  }
};

/// Where this program's own code lies; the C library chooses its instructions for itself.
struct code_range {
  unsigned long first = 0, last = 0;
};
code_range own_code() {
  std::ifstream maps("/proc/self/maps");
  code_range found;
  const auto here = reinterpret_cast<unsigned long>(&own_code);
  for (std::string line; std::getline(maps, line);) {
    code_range one;
    if (std::sscanf(line.c_str(), "%lx-%lx", &one.first, &one.last) == 2 && here >= one.first && here < one.last)
      found = one;
  }
  return found;
}

/// The encodings that a child's instructions began with: 0x62 is AVX-512's prefix, 0xc4 and 0xc5 those of AVX and AVX2,
/// in 64-bit code never anything else.
std::optional<std::set<int>> encodings_executed() {
  const code_range code = own_code();
  small_step step;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(3);
    ::raise(SIGSTOP);
    step.run();
    ::_exit(0);
  }
  std::set<int> seen;
  int status = 0;
  for (::waitpid(child, &status, 0); WIFSTOPPED(status); ::waitpid(child, &status, 0)) {
    const int signal = WSTOPSIG(status);
    user_regs_struct at = {};
    ::ptrace(PTRACE_GETREGS, child, nullptr, &at);
    if (at.rip >= code.first && at.rip < code.last) seen.insert(*reinterpret_cast<const unsigned char*>(at.rip));
    const long deliver = signal == SIGTRAP || signal == SIGSTOP ? 0 : signal;
    ::ptrace(PTRACE_SINGLESTEP, child, nullptr, deliver);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 3) return std::nullopt;
  REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  return seen;
}

}  // namespace

TEST_CASE("a masked instruction set is never executed") {
  const auto executed = [](const char* best) {
    const mask masked(best);
    return encodings_executed();
  };
  const auto plain = executed("scalar");
  if (!plain) {
    WARN("this process may not trace its children: not checked");
    return;
  }
  for (const int prefix : {0x62, 0xc4, 0xc5}) CHECK_FALSE(plain->contains(prefix));
  CHECK_FALSE(executed("avx2")->contains(0x62));
  // And the eye is not blind: where the machine has the best, its instructions are seen.
  const mask none(nullptr);
  if (machine_has(isa::avx512vnni)) CHECK(encodings_executed()->contains(0x62));
  if (machine_has(isa::avx2)) CHECK(encodings_executed()->contains(0xc5));
}

#endif
