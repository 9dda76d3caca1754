// What products cost on this machine, kept in a small text file for the next start. Knows no product: it is told by
// whom to measure.
//
//   troupe product costs 1
//   AuthenticAMD, 26, 2, 1, AMD EPYC, caches 49152 1048576 33554432; avx2 avx512vnni; 2 threads of 2; GCC 12.2.0
//   Q8_0 1 avx512vnni/6 7430        type, rows, set/rows at once, nanoseconds for 2^20 weights
//   sum 0123456789abcdef            of everything above
//
// A file that is cut short, altered, of another machine or another build of the kernels is as good as none.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/product_ways.hpp"
#include "memory/copy_folder.hpp"

namespace troupe::kernels {

/// One line: processor and caches, the sets that may be executed, threads and cores, and the build that the kernels are
/// of.
std::string fingerprint(int threads, std::span<const isa> usable);

std::string text_of(std::string_view fingerprint, std::span<const way_cost> costs);
/// Empty where anything is not as text_of writes it for this fingerprint.
std::vector<way_cost> costs_of(std::string_view text, std::string_view fingerprint);

/// Where costs of the machine with this fingerprint lie: one file for each.
std::string costs_path(const memory::copy_folder& folder, std::string_view fingerprint);

using cost_meter = std::function<std::vector<way_cost>(memory::dtype)>;

struct known_costs {
  std::vector<way_cost> costs;
  bool measured = false;  ///< some of them now; else all were read
};

/// The costs of `types`: what the folder has, the rest from `measure`, and then all of it is kept. `anew`: nothing is
/// read. What `measure` has nothing for is asked again at the next start. That costs cannot be kept is no error: the
/// log tells (debug).
known_costs costs_for(std::span<const memory::dtype> types, std::string_view fingerprint,
                      const memory::copy_folder& folder, const cost_meter& measure, bool anew = false);

}  // namespace troupe::kernels
