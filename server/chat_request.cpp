// The document around a request's fields. The DOM parser checks all of the body first (UTF-8, numbers, depth), so that
// what the field readers see is sound JSON.
#include "server/chat_request.hpp"

#include <algorithm>

#include "server/request_fields.hpp"

namespace troupe::server {
namespace {

constexpr std::size_t max_depth = 32;

error not_json(simdjson::error_code problem) {
  if (problem == simdjson::MEMALLOC) return {errc::out_of_memory, "There is no memory to read this request.", {}};
  if (problem == simdjson::DEPTH_ERROR) return {errc::invalid_argument, "The JSON is nested too deeply.", {}};
  return {errc::invalid_argument, std::string("This is not JSON: ") + simdjson::error_message(problem), {}};
}

/// A document that lives as long as its parser.
result<simdjson::dom::object> read_object(simdjson::dom::parser& parser, std::string_view body) {
  if (auto problem = parser.allocate(std::max<std::size_t>(body.size(), 64), max_depth)) return not_json(problem);
  element root;
  if (auto problem = parser.parse(body.data(), body.size()).get(root)) return not_json(problem);
  simdjson::dom::object object;
  if (root.get(object)) return error{errc::invalid_argument, "The body must be a JSON object.", {}};
  return object;
}

result<parsed_request> read_request(std::string_view body, bool messages, bool prompt) {
  simdjson::dom::parser parser;
  auto object = read_object(parser, body);
  if (!object) return std::move(object).why();
  reading r;
  r.chat = messages;
  r.takes_messages = messages;
  r.takes_prompt = prompt;
  if (auto read = read_fields(*object, r); !read) return std::move(read).why();
  return finish(std::move(r));
}

}  // namespace

result<parsed_request> parse_chat(std::string_view body) { return read_request(body, true, false); }
result<parsed_request> parse_completion(std::string_view body) { return read_request(body, false, true); }
result<parsed_request> parse_generation(std::string_view body) { return read_request(body, true, true); }

client_message parse_client_message(std::string_view frame) {
  client_message message;
  simdjson::dom::parser parser;
  auto object = read_object(parser, frame);
  const auto unreadable = [&](error why) {
    message.what = client_message::kind::unreadable;
    message.wrong = std::move(why);
    return message;
  };
  if (!object) return unreadable(std::move(object).why());
  element id;
  if ((*object)["id"].get(id)) return unreadable(wrong("id", "is missing."));
  auto name = read_text(id, "id", 128);
  if (!name) return unreadable(std::move(name).why());
  if (name->empty()) return unreadable(wrong("id", "must not be empty."));
  message.id = *std::move(name);
  std::string_view kind;
  if ((*object)["type"].get(kind) || (kind != "generate" && kind != "cancel"))
    return unreadable(wrong("type", "must be \"generate\" or \"cancel\"."));
  message.what = kind == "cancel" ? client_message::kind::cancel : client_message::kind::generate;
  if (kind == "cancel") return message;
  reading r;
  if (auto read = read_fields(*object, r); !read) return unreadable(std::move(read).why());
  auto ask = finish(std::move(r));
  if (!ask) return unreadable(std::move(ask).why());
  message.ask = *std::move(ask);
  return message;
}

}  // namespace troupe::server
