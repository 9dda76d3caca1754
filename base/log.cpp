// The one file that sees spdlog.
#include "base/log.hpp"

#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace troupe::base {
namespace {

spdlog::level::level_enum native(log_level level) noexcept {
  switch (level) {
    case log_level::debug: return spdlog::level::debug;
    case log_level::info: return spdlog::level::info;
    case log_level::warning: return spdlog::level::warn;
    case log_level::error: return spdlog::level::err;
    case log_level::off: break;
  }
  return spdlog::level::off;
}

spdlog::logger& logger() {
  // Never destroyed: threads may still log while statics are taken down.
  static auto& instance = *new spdlog::logger("troupe", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  static const bool ready = [] {
    instance.set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
    instance.set_level(spdlog::level::info);
    instance.flush_on(spdlog::level::debug);
    return true;
  }();
  (void)ready;
  return instance;
}

std::string one_line(std::string_view room, std::string_view text) {
  std::string line;
  line.reserve(room.size() + 2 + text.size());
  line.append(room).append(": ").append(text);
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return line;
}

}  // namespace

std::optional<log_level> log_level_of(std::string_view name) noexcept {
  if (name == "debug") return log_level::debug;
  if (name == "info") return log_level::info;
  if (name == "warning" || name == "warn") return log_level::warning;
  if (name == "error") return log_level::error;
  if (name == "off") return log_level::off;
  return std::nullopt;
}

void set_log_level(log_level level) noexcept { logger().set_level(native(level)); }

log_level current_log_level() noexcept {
  switch (logger().level()) {
    case spdlog::level::trace:
    case spdlog::level::debug: return log_level::debug;
    case spdlog::level::info: return log_level::info;
    case spdlog::level::warn: return log_level::warning;
    case spdlog::level::err:
    case spdlog::level::critical: return log_level::error;
    default: return log_level::off;
  }
}

void log(log_level level, std::string_view room, std::string_view text) noexcept {
  if (level == log_level::off) return;
  try {
    auto& out = logger();
    if (out.should_log(native(level))) out.log(native(level), spdlog::string_view_t(one_line(room, text)));
  } catch (...) {
    // Out of memory or a closed stderr: there is nowhere left to say so.
  }
}

}  // namespace troupe::base
