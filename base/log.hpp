// The process's log: one line an event, to stderr. Knows no request: never hand it prompt text, answers or keys.
// The library behind it is seen by log.cpp alone.
#pragma once

#include <optional>
#include <string_view>

namespace troupe::base {

enum class log_level { debug, info, warning, error, off };

/// "debug", "info", "warning" (also "warn"), "error", "off"; nothing for any other name.
std::optional<log_level> log_level_of(std::string_view name) noexcept;

/// What is below `level` is dropped. Thread-safe. The level at start is `info`.
void set_log_level(log_level level) noexcept;
log_level current_log_level() noexcept;

/// Writes "2026-01-31 12:00:00.000 warning room: text". `room` says which part speaks ("scheduler"). Line breaks and
/// control characters in `text` are written as spaces, so that one event stays one line. Thread-safe; never throws;
/// a few microseconds, so not for a token loop.
void log(log_level level, std::string_view room, std::string_view text) noexcept;

}  // namespace troupe::base
