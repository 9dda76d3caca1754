// `troupe bench --engine`: the same decode through actors, scheduler and streams.
#pragma once

#include "cli/options.hpp"

namespace troupe::cli {

/// One row a batch size: tokens a second in all, actor messages a token, and the time between steps.
int bench_engine(const bench_options& options);

}  // namespace troupe::cli
