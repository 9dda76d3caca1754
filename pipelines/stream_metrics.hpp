// The metrics page's lines about generations, in Prometheus' text exposition format 0.0.4.
#pragma once

#include <string>
#include <vector>

#include "pipelines/engine_service.hpp"

namespace troupe::pipelines {

/// Each metric's HELP and TYPE once, then a line per model.
void append_stream_metrics(std::string& out, const std::vector<served_model>& models);

}  // namespace troupe::pipelines
