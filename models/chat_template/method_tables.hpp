// One table of methods per type; container_methods.cpp picks the table.
#pragma once

#include "models/chat_template/builtins.hpp"

namespace troupe::models::jinja {

const builtin* find_string_method(std::string_view name);

}  // namespace troupe::models::jinja
