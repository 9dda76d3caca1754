// The guard between header and body. Beast 1.81 accepts several framings that proxies read differently
// (RFC 9112 sections 6.1 and 6.3); whatever could be read in two ways is refused here and the connection closed.
#include "server/request_guard.hpp"

#include <algorithm>
#include <charconv>

namespace troupe::server {
namespace {

constexpr std::size_t max_fields = 100;
constexpr std::size_t max_target = 8192;

refusal refuse(int status, std::string text, errc code = errc::invalid_argument) {
  return {status, {code, std::move(text), {}}};
}

std::optional<refusal> check_target(const request_head& head) {
  if (head.version != 10 && head.version != 11)
    return refuse(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.", errc::unsupported);
  if (head.target.size() > max_target) return refuse(414, "The request target is too long.");
  const bool plain = std::all_of(head.target.begin(), head.target.end(), [](char c) { return c > ' ' && c < 127; });
  if (!plain || head.target.front() != '/') return refuse(400, "The request target must be a path of printable ASCII.");
  if (head.fields.size() > max_fields) return refuse(431, "More than 100 header fields.");
  return {};
}

/// The length that one Content-Length field says; nothing for what is not a plain number.
std::optional<std::uint64_t> plain_length(std::string_view text) {
  std::uint64_t length = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), length);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) return {};
  return length;
}

std::optional<refusal> check_length(const request_head& head, std::uint64_t max_body) {
  const auto codings = head.count("transfer-encoding");
  const auto lengths = head.count("content-length");
  if (codings > 0 && lengths > 0) return refuse(400, "Content-Length and Transfer-Encoding exclude each other.");
  if (codings > 1 || lengths > 1) return refuse(400, "Content-Length or Transfer-Encoding is there twice.");
  if (codings == 1 && head.version == 10) return refuse(400, "HTTP/1.0 knows no Transfer-Encoding.");
  if (codings == 1 && !same_word(head.field("transfer-encoding"), "chunked"))
    return refuse(501, "The only Transfer-Encoding understood is chunked.", errc::unsupported);
  std::uint64_t length = 0;
  if (lengths == 1) {
    const auto said = plain_length(head.field("content-length"));
    if (!said) return refuse(400, "Content-Length is not a plain number.");
    length = *said;
  }
  if (length > max_body) return refuse(413, "The body is over the limit of " + std::to_string(max_body) + " bytes.");
  if ((codings > 0 || length > 0) && (head.method == "GET" || head.method == "HEAD"))
    return refuse(400, "A " + head.method + " request has no body here.");
  return {};
}

bool is_host_character(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == ':' || c == '[' || c == ']';
}

std::optional<refusal> check_host_field(const request_head& head) {
  if (head.count("host") > 1) return refuse(400, "More than one Host field.");
  const auto host = head.field("host");
  if (host.empty() && head.version == 11) return refuse(400, "HTTP/1.1 requires a Host field.");
  if (!std::all_of(host.begin(), host.end(), is_host_character)) return refuse(400, "The Host field is not a host.");
  return {};
}

/// Without the port; brackets of an IPv6 literal stay.
std::string_view host_name(std::string_view host) noexcept {
  if (!host.empty() && host.front() == '[') {
    const auto end = host.find(']');
    return end == host.npos ? host : host.substr(0, end + 1);
  }
  return host.substr(0, host.find(':'));
}

/// Four decimal parts of one to three digits: enough to know that no name server was asked.
bool is_ipv4_literal(std::string_view name) noexcept {
  int parts = 1, digits = 0;
  for (char c : name) {
    if (c == '.') {
      if (digits == 0) return false;
      ++parts;
      digits = 0;
    } else if (c < '0' || c > '9' || ++digits > 3) {
      return false;
    }
  }
  return parts == 4 && digits > 0;
}

bool is_listed(const std::vector<std::string>& list, std::string_view value) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& entry) { return same_word(entry, value); });
}

bool host_allowed(std::string_view host, const access_rules& rules) {
  if (host.empty() || is_loopback_host(host)) return true;  // empty: HTTP/1.0, which no browser speaks
  const auto name = host_name(host);
  if (rules.any_address && (is_ipv4_literal(name) || name.front() == '[')) return true;
  return is_listed(rules.hosts, host) || is_listed(rules.hosts, name);
}

}  // namespace

bool is_loopback_host(std::string_view host) noexcept {
  const auto name = host_name(host);
  return same_word(name, "localhost") || name == "[::1]" || (is_ipv4_literal(name) && name.substr(0, 4) == "127.");
}

std::optional<refusal> check_framing(const request_head& head, std::uint64_t max_body) {
  if (auto no = check_target(head)) return no;
  if (auto no = check_host_field(head)) return no;
  return check_length(head, max_body);
}

std::optional<refusal> check_access(const request_head& head, const access_rules& rules) {
  const auto host = head.field("host");
  if (!host_allowed(host, rules)) {
    auto no = refuse(403, "This Host is not served here. Start with --allow-host to accept it.");
    no.why.param = "host";
    return no;
  }
  const bool harmless =
      (head.method == "GET" || head.method == "HEAD" || head.method == "OPTIONS") && head.count("upgrade") == 0;
  if (harmless || head.count("origin") == 0) return {};
  const auto origin = head.field("origin");
  const bool own = origin == "http://" + std::string(host) || origin == "https://" + std::string(host);
  if (head.count("origin") == 1 && (own || is_listed(rules.origins, origin))) return {};
  auto no = refuse(403, "This Origin may not call. Start with --allow-origin to accept it.");
  no.why.param = "origin";
  return no;
}

std::optional<refusal> check_content(const request_head& head) {
  const auto type = head.field("content-type");
  if (!same_word(trimmed(type.substr(0, type.find(';'))), "application/json"))
    return refuse(415, "The Content-Type must be application/json.");
  if (head.count("content-encoding") > 0 && !same_word(head.field("content-encoding"), "identity"))
    return refuse(415, "No Content-Encoding is understood.");
  return {};
}

}  // namespace troupe::server
