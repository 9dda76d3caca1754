// From the command line's options to a running runtime with its model.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <troupe/runtime.hpp>

#include "cli/options.hpp"
#include "memory/copy_folder.hpp"

namespace troupe::cli {

struct engine {
  std::unique_ptr<troupe::runtime> runtime;
  troupe::model model;
};

/// Where repacked weights are kept, and how many bytes of them.
memory::copy_folder copies_of(const engine_options& options);

/// Reports loading to stderr when that is a terminal and takes over a second.
result<engine> start_engine(const engine_options& options, std::function<void(const error&)> on_lost = {});

}  // namespace troupe::cli
