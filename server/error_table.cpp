// Total over errc: a new error without a row does not compile (-Wswitch under -Werror).
#include "server/error_table.hpp"

#include "base/json_writer.hpp"

namespace troupe::server {

error_row row_of(errc code) noexcept {
  switch (code) {
    case errc::invalid_argument: return {400, "invalid_request_error", 1008};
    case errc::context_length_exceeded: return {400, "invalid_request_error", 1008};
    case errc::not_found: return {404, "invalid_request_error", 1008};
    case errc::unsupported: return {400, "invalid_request_error", 1003};
    case errc::overloaded: return {429, "rate_limit_error", 1013};
    case errc::out_of_memory: return {503, "server_error", 1013};
    case errc::cancelled: return {499, "server_error", 1001};
    case errc::deadline_exceeded: return {504, "server_error", 1013};
    case errc::corrupt_file: return {500, "server_error", 1011};
    case errc::io: return {500, "server_error", 1011};
    case errc::network: return {502, "server_error", 1011};
    case errc::numeric: return {500, "server_error", 1011};
    case errc::shutting_down: return {503, "server_error", 1001};
    case errc::internal: return {500, "server_error", 1011};
  }
  return {};
}

std::string error_object(const error& e) {
  std::string out;
  base::json_writer json(out);
  // What OpenAI's clients know a missing model by.
  const bool no_model = e.code == errc::not_found && e.param == "model";
  json.begin_object().field("message", e.text).field("type", row_of(e.code).type).key("param");
  if (e.param.empty()) json.null();
  else json.value(e.param);
  json.field("code", no_model ? std::string_view("model_not_found") : to_string(e.code)).end_object();
  return out;
}

std::string error_body(const error& e) { return "{\"error\":" + error_object(e) + "}"; }

std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Cancelled";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
  }
  return "Error";
}

}  // namespace troupe::server
