// A point in time as text. Knows no time zones (UTC) and no locale (English).
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace troupe::models::jinja {

/// strftime for the directives that templates use; others are copied as they stand.
std::string format_date(std::string_view pattern, std::chrono::system_clock::time_point when);

}  // namespace troupe::models::jinja
