// Whether a request's fields are in range, as include/troupe/request.hpp states the ranges. Pure; knows no model:
// what depends on one (token ids, context length) prompt_encoder checks.
#pragma once

#include <troupe/request.hpp>
#include <troupe/result.hpp>

namespace troupe::actors {

/// invalid_argument naming the first field at fault, as OpenAI's API spells it ("top_p", "messages[2].role").
result<void> check_request(const request& what);

}  // namespace troupe::actors
