// `troupe bench --peer`: this program and others in turn on the same file, each run a fresh process.
#pragma once

#include <string>
#include <vector>

#include "cli/options.hpp"

namespace troupe::cli {

/// For each workload, `pairs` rounds in which every program runs once; the order turns round from round to round. Our
/// own side is a child process too: what a process inherits by chance (where its pages lie, what it still holds of an
/// earlier workload) then varies for all alike, and none of our threads or memory is there while a peer runs.
/// Prints medians, spread, ratios and our share of the limit. Returns 1 if a peer failed; our rows are printed all the
/// same.
int bench_against_peers(const bench_options& options, const std::string& model_path,
                        const std::vector<std::int32_t>& threads);

}  // namespace troupe::cli
