// One table of filters per file; filters_sequence.cpp looks in both.
#pragma once

#include "models/chat_template/builtins.hpp"

namespace troupe::models::jinja {

const builtin* find_text_filter(std::string_view name);

}  // namespace troupe::models::jinja
