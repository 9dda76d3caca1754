// `messages` and `prompt`.
#include "server/request_fields.hpp"

namespace troupe::server {
namespace {

result<std::string> read_parts(simdjson::dom::array parts, const std::string& param) {
  std::string all;
  std::size_t n = 0;
  for (element part : parts) {
    const auto at = param + "[" + std::to_string(n++) + "]";
    std::string_view type;
    if (part["type"].get(type)) return wrong(at + ".type", "must be a string.");
    if (type != "text") return not_offered(at + ".type", "must be \"text\": no other kind of content is offered.");
    element content;
    if (part["text"].get(content)) return wrong(at + ".text", "is missing.");
    auto text = read_text(content, at + ".text", any_length);
    if (!text) return text;
    all += *text;
  }
  return all;
}

result<chat_message> read_message(element e, const std::string& at) {
  simdjson::dom::object object;
  if (e.get(object)) return wrong(at, "must be an object.");
  for (const char* name : {"tool_calls", "function_call", "audio"}) {
    element there;
    if (!object[name].get(there) && !there.is_null()) return not_offered(at + "." + name, "is not offered.");
  }
  element role, content;
  if (object["role"].get(role)) return wrong(at + ".role", "is missing.");
  auto name = read_text(role, at + ".role", 64);
  if (!name) return std::move(name).why();
  if (*name == "tool" || *name == "function")
    return not_offered(at + ".role", "must not be " + *name + ": tools are not offered.");
  if (*name == "developer") *name = "system";  // OpenAI's newer name for it
  if (*name != "system" && *name != "user" && *name != "assistant")
    return wrong(at + ".role", "must be system, developer, user or assistant.");
  if (object["content"].get(content)) return wrong(at + ".content", "is missing.");
  if (content.is_null() && *name == "assistant") return chat_message{*name, ""};
  simdjson::dom::array parts;
  auto text =
      !content.get(parts) ? read_parts(parts, at + ".content") : read_text(content, at + ".content", any_length);
  if (!text) return std::move(text).why();
  return chat_message{*std::move(name), *std::move(text)};
}

}  // namespace

result<void> read_messages(element e, const std::string& param, reading& r) {
  if (!r.takes_messages) return {};
  simdjson::dom::array list;
  if (e.get(list)) return wrong(param, "must be an array of messages.");
  chat_prompt messages;
  for (element each : list) {
    auto message = read_message(each, param + "[" + std::to_string(messages.size()) + "]");
    if (!message) return std::move(message).why();
    messages.push_back(*std::move(message));
  }
  if (messages.empty()) return wrong(param, "must hold at least one message.");
  r.made.what.prompt = std::move(messages);
  r.has_messages = true;
  return {};
}

result<void> read_prompt(element e, const std::string& param, reading& r) {
  if (!r.takes_prompt) return {};
  r.has_prompt = true;
  simdjson::dom::array list;
  if (e.get(list)) {
    auto text = read_text(e, param, any_length);
    if (!text) return wrong(param, "must be a string or an array of token ids.");
    if (text->empty()) return wrong(param, "must not be empty.");
    r.made.what.prompt = text_prompt(*std::move(text));
    return {};
  }
  token_prompt ids;
  for (element each : list) {
    if (each.is_string() || each.is_array()) {
      if (ids.empty() && list.size() == 1)
        return read_prompt(each, param, r);  // a list of one prompt; depth is limited
      return not_offered(param, "must be one prompt: several in one request are not offered.");
    }
    auto id =
        read_whole(each, param + "[" + std::to_string(ids.size()) + "]", 0, std::numeric_limits<std::int32_t>::max());
    if (!id) return std::move(id).why();
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  if (ids.empty()) return wrong(param, "must not be empty.");
  r.made.what.prompt = std::move(ids);
  return {};
}

}  // namespace troupe::server
