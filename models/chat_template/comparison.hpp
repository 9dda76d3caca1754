// Equality, order and membership of values, as Python has them. Knows no syntax.
#pragma once

#include "models/chat_template/meter.hpp"
#include "models/chat_template/value.hpp"

namespace troupe::models::jinja {

bool equal(meter& cost, const value& a, const value& b);
/// a < b; ends the render where the types have no order.
bool less(meter& cost, const value& a, const value& b);
/// `item in container`.
bool contains(meter& cost, const value& container, const value& item);

}  // namespace troupe::models::jinja
