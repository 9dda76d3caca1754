// Writes answer heads (RFC 9112).
#include "server/response_text.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <random>

#include "server/error_table.hpp"

namespace troupe::server {
namespace {

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

/// RFC 9110 5.6.7, without the locale that strftime would ask.
std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm t{};
  gmtime_r(&now, &t);
  constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  char text[64];
  const int size = std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday], t.tm_mday,
                                 months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
  return {text, static_cast<std::size_t>(size)};
}

void append_head(std::string& out, int status, const response_facts& facts) {
  out.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason_phrase(status)).append("\r\n");
  append_field(out, "Server", "troupe");
  append_field(out, "Date", http_date());
  append_field(out, "Connection", facts.keep_alive ? "keep-alive" : "close");
  append_field(out, "X-Content-Type-Options", "nosniff");
  if (!facts.request_id.empty()) append_field(out, "x-request-id", facts.request_id);
  if (facts.allow_origin.empty()) return;
  append_field(out, "Access-Control-Allow-Origin", facts.allow_origin);
  append_field(out, "Vary", "Origin");
}

}  // namespace

std::string whole_response(const reply& whole, const response_facts& facts) {
  std::string out;
  out.reserve(whole.body.size() + 512);
  append_head(out, whole.status, facts);
  const bool bodiless = whole.status == 204 || whole.status == 304;
  if (!bodiless) {
    append_field(out, "Content-Type", whole.content_type);
    append_field(out, "Content-Length", std::to_string(whole.body.size()));
  }
  const auto is_cache_rule = [](const auto& field) { return field.first == "Cache-Control"; };
  if (std::none_of(whole.fields.begin(), whole.fields.end(), is_cache_rule))
    append_field(out, "Cache-Control", "no-store");
  for (const auto& [name, value] : whole.fields) append_field(out, name, value);
  out += "\r\n";
  if (!bodiless && !facts.head_only) out += whole.body;
  return out;
}

std::string stream_response_head(std::string_view content_type, bool chunked, const response_facts& facts) {
  std::string out;
  append_head(out, 200, facts);
  append_field(out, "Content-Type", content_type);
  append_field(out, "Cache-Control", "no-store");
  append_field(out, "X-Accel-Buffering", "no");  // a proxy that collects would undo the streaming
  if (chunked) append_field(out, "Transfer-Encoding", "chunked");
  return out += "\r\n";
}

void append_part(std::string& out, std::string_view part, bool chunked) {
  if (part.empty()) return;
  if (!chunked) {
    out += part;
    return;
  }
  char size[16];
  const auto end = std::to_chars(size, size + sizeof size, part.size(), 16).ptr;
  out.append(size, end).append("\r\n").append(part).append("\r\n");
}

std::string request_id_for(const request_head& head) {
  const auto said = head.field("x-request-id");
  const bool harmless = std::all_of(said.begin(), said.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
  if (harmless && !said.empty() && said.size() <= 128 && head.count("x-request-id") == 1) return std::string(said);
  thread_local std::mt19937_64 random{std::random_device{}()};
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, random(), 16).ptr;
  return "req-" + std::string(digits, end);
}

}  // namespace troupe::server
