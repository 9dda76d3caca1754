// The metrics page's part about models: their engines and the generations in them.
#pragma once

#include <string>
#include <vector>

#include "pipelines/engine_service.hpp"

namespace troupe::pipelines {

/// Prometheus' text exposition format 0.0.4, appended; of each metric a line for every model. Reads atomics only.
void append_metrics_page(std::string& out, const std::vector<served_model>& models);

}  // namespace troupe::pipelines
