// The only file that knows simdjson. The DOM parser checks all of the body first (UTF-8, numbers, depth), so that what
// the field readers see is sound JSON.
#include "server/chat_request.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>

namespace troupe::server {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;

constexpr std::size_t max_depth = 32;
constexpr std::size_t max_stops = 16, max_stop_bytes = 256, max_biases = 1024, max_name_bytes = 1024;

error wrong(std::string param, const std::string& text) { return {errc::invalid_argument, "`" + param + "` " + text, param}; }
error not_offered(std::string param, const std::string& text) { return {errc::unsupported, "`" + param + "` " + text, param}; }

// --- typed reading: each names the field it could not read ---------------------------------------------------------

result<std::string> read_text(element e, const std::string& param, std::size_t limit) {
  std::string_view text;
  if (e.get(text)) return wrong(param, "must be a string.");
  if (text.size() > limit) return wrong(param, "is longer than " + std::to_string(limit) + " bytes.");
  return std::string(text);
}

result<std::int64_t> read_whole(element e, const std::string& param, std::int64_t low, std::int64_t high) {
  std::int64_t value = 0;
  if (e.get(value) || value < low || value > high)
    return wrong(param, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high) + ".");
  return value;
}

result<bool> read_flag(element e, const std::string& param) {
  bool value = false;
  if (e.get(value)) return wrong(param, "must be true or false.");
  return value;
}

std::string short_number(double value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

result<float> read_number(element e, const std::string& param, double low, double high) {
  double value = 0;
  if (e.get(value) || !std::isfinite(value) || value < low || value > high)
    return wrong(param, "must be a number from " + short_number(low) + " to " + short_number(high) + ".");
  return static_cast<float>(value);
}

/// Puts a read value where it belongs, or hands the error on.
template <class Value, class Into>
result<void> store(result<Value> read, Into& into) {
  if (!read) return std::move(read).why();
  into = static_cast<Into>(*std::move(read));
  return {};
}

// --- fields --------------------------------------------------------------------------------------------------------

/// What is being read, and what only makes sense once all fields are known.
struct reading {
  parsed_request made;
  bool chat = true;  ///< chat's shape of `logprobs`
  bool takes_messages = true, takes_prompt = true;
  bool has_messages = false, has_prompt = false;
  bool wants_logprobs = false;
  std::optional<std::int32_t> top_logprobs;
  std::optional<std::int32_t> max_tokens, max_completion_tokens;
};
using reader = result<void> (*)(element, const std::string& name, reading&);

struct field_row {
  std::string_view name;
  reader read;
};

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
    auto text = read_text(content, at + ".text", std::numeric_limits<std::size_t>::max());
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
  if (*name == "tool" || *name == "function") return not_offered(at + ".role", "must not be " + *name + ": tools are not offered.");
  if (*name == "developer") *name = "system";  // OpenAI's newer name for it
  if (*name != "system" && *name != "user" && *name != "assistant")
    return wrong(at + ".role", "must be system, developer, user or assistant.");
  if (object["content"].get(content)) return wrong(at + ".content", "is missing.");
  if (content.is_null() && *name == "assistant") return chat_message{*name, ""};
  simdjson::dom::array parts;
  auto text = !content.get(parts) ? read_parts(parts, at + ".content")
                                  : read_text(content, at + ".content", std::numeric_limits<std::size_t>::max());
  if (!text) return std::move(text).why();
  return chat_message{*std::move(name), *std::move(text)};
}

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
    auto text = read_text(e, param, std::numeric_limits<std::size_t>::max());
    if (!text) return wrong(param, "must be a string or an array of token ids.");
    if (text->empty()) return wrong(param, "must not be empty.");
    r.made.what.prompt = text_prompt(*std::move(text));
    return {};
  }
  token_prompt ids;
  for (element each : list) {
    if (each.is_string() || each.is_array()) {
      if (ids.empty() && list.size() == 1) return read_prompt(each, param, r);  // a list of one prompt; depth is limited
      return not_offered(param, "must be one prompt: several in one request are not offered.");
    }
    auto id = read_whole(each, param + "[" + std::to_string(ids.size()) + "]", 0, std::numeric_limits<std::int32_t>::max());
    if (!id) return std::move(id).why();
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  if (ids.empty()) return wrong(param, "must not be empty.");
  r.made.what.prompt = std::move(ids);
  return {};
}

result<void> read_stop(element e, const std::string& param, reading& r) {
  simdjson::dom::array list;
  auto& stops = r.made.what.stop;
  const auto add = [&](element each, const std::string& at) -> result<void> {
    if (stops.size() == max_stops) return wrong(param, "holds more than 16 strings.");
    auto text = read_text(each, at, max_stop_bytes);
    if (!text) return std::move(text).why();
    if (text->empty()) return wrong(at, "must not be empty.");
    stops.push_back(*std::move(text));
    return {};
  };
  if (e.get(list)) {
    if (!e.is_string()) return wrong(param, "must be a string or an array of strings.");
    return add(e, param);
  }
  for (element each : list)
    if (auto added = add(each, param + "[" + std::to_string(stops.size()) + "]"); !added) return added;
  return {};
}

result<void> read_logit_bias(element e, const std::string& param, reading& r) {
  simdjson::dom::object object;
  if (e.get(object)) return wrong(param, "must be an object of token ids and numbers.");
  auto& biases = r.made.what.how.logit_bias;
  for (auto [key, value] : object) {
    if (biases.size() == max_biases) return wrong(param, "holds more than 1024 entries.");
    std::int32_t id = -1;
    const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (problem != std::errc() || end != key.data() + key.size() || id < 0) return wrong(param, "has a key that is not a token id.");
    auto bias = read_number(value, param, -100, 100);
    if (!bias) return std::move(bias).why();
    biases.emplace_back(id, *bias);
  }
  return {};
}

result<void> read_logprobs(element e, const std::string& param, reading& r) {
  if (r.chat) return store(read_flag(e, param), r.wants_logprobs);
  r.wants_logprobs = true;
  return store(read_whole(e, param, 0, 20), r.top_logprobs.emplace());
}

result<void> read_stream_options(element e, const std::string& param, reading& r) {
  simdjson::dom::object object;
  if (e.get(object)) return wrong(param, "must be an object.");
  element usage;
  if (object["include_usage"].get(usage) || usage.is_null()) return {};
  return store(read_flag(usage, param + ".include_usage"), r.made.include_usage);
}

result<void> read_seed(element e, const std::string& param, reading& r) {
  std::uint64_t big = 0;
  if (!e.get(big)) {
    r.made.what.how.seed = big;
    return {};
  }
  auto seed = read_whole(e, param, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  if (!seed) return std::move(seed).why();
  r.made.what.how.seed = static_cast<std::uint64_t>(*seed);
  return {};
}

/// Only one answer a request.
result<void> read_one(element e, const std::string& param, reading&) {
  auto n = read_whole(e, param, 1, std::numeric_limits<std::int64_t>::max());
  if (!n) return std::move(n).why();
  if (*n != 1) return not_offered(param, "must be 1: one answer a request is what is offered.");
  return {};
}

/// Sent by clients as a matter of course; harmless where it asks for nothing.
result<void> read_nothing(element e, const std::string& param, reading&) {
  bool flag = true;
  std::string_view text;
  simdjson::dom::array list;
  simdjson::dom::object object;
  if (!e.get(flag) && !flag) return {};
  if (!e.get(text) && (text.empty() || text == "none" || text == "auto")) return {};
  if (!e.get(list)) {
    const bool only_text = param == "modalities" && std::all_of(list.begin(), list.end(), [](element each) { return std::string_view(each.is_string() ? each.get_c_str().value() : "") == "text"; });
    if (list.size() == 0 || only_text) return {};
  }
  if (param == "response_format" && !e.get(object) && !object["type"].get(text) && text == "text") return {};
  return not_offered(param, "is not offered.");
}

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

constexpr field_row fields[] = {
    {"messages", read_messages},
    {"prompt", read_prompt},
    {"model", [](element e, const std::string& p, reading& r) { return store(read_text(e, p, max_name_bytes), r.made.model); }},
    {"stream", [](element e, const std::string& p, reading& r) { return store(read_flag(e, p), r.made.stream); }},
    {"stream_options", read_stream_options},
    {"max_tokens", [](element e, const std::string& p, reading& r) { return store(read_whole(e, p, 1, int32_max), r.max_tokens.emplace()); }},
    {"max_completion_tokens",
     [](element e, const std::string& p, reading& r) { return store(read_whole(e, p, 1, int32_max), r.max_completion_tokens.emplace()); }},
    {"temperature", [](element e, const std::string& p, reading& r) { return store(read_number(e, p, 0, 2), r.made.what.how.temperature); }},
    {"top_p",
     [](element e, const std::string& p, reading& r) -> result<void> {
       auto stored = store(read_number(e, p, 0, 1), r.made.what.how.top_p);
       if (stored && r.made.what.how.top_p <= 0) return wrong(p, "must be over 0.");
       return stored;
     }},
    {"top_k", [](element e, const std::string& p, reading& r) { return store(read_whole(e, p, 0, int32_max), r.made.what.how.top_k); }},
    {"min_p", [](element e, const std::string& p, reading& r) { return store(read_number(e, p, 0, 1), r.made.what.how.min_p); }},
    {"repetition_penalty",
     [](element e, const std::string& p, reading& r) -> result<void> {
       auto stored = store(read_number(e, p, 0, 10), r.made.what.how.repetition_penalty);
       if (stored && r.made.what.how.repetition_penalty <= 0) return wrong(p, "must be over 0.");
       return stored;
     }},
    {"presence_penalty",
     [](element e, const std::string& p, reading& r) { return store(read_number(e, p, -2, 2), r.made.what.how.presence_penalty); }},
    {"frequency_penalty",
     [](element e, const std::string& p, reading& r) { return store(read_number(e, p, -2, 2), r.made.what.how.frequency_penalty); }},
    {"logit_bias", read_logit_bias},
    {"seed", read_seed},
    {"stop", read_stop},
    {"logprobs", read_logprobs},
    {"top_logprobs", [](element e, const std::string& p, reading& r) { return store(read_whole(e, p, 0, 20), r.top_logprobs.emplace()); }},
    {"ignore_eos", [](element e, const std::string& p, reading& r) { return store(read_flag(e, p), r.made.what.ignore_eos); }},
    {"user",
     [](element e, const std::string& p, reading&) -> result<void> {
       std::string unused;
       return store(read_text(e, p, max_name_bytes), unused);
     }},
    {"n", read_one},
    {"best_of", read_one},
    {"tools", read_nothing},
    {"tool_choice", read_nothing},
    {"functions", read_nothing},
    {"function_call", read_nothing},
    {"response_format", read_nothing},
    {"modalities", read_nothing},
    {"audio", read_nothing},
    {"prediction", read_nothing},
    {"web_search_options", read_nothing},
    {"suffix", read_nothing},
    {"echo", read_nothing},
    {"prompt_embeds", read_nothing},
    {"chat_template", read_nothing},
    {"chat_template_kwargs", read_nothing},
    // Constraints: an answer that ignores them would be taken for one that keeps them.
    {"grammar", read_nothing},
    {"json_schema", read_nothing},
    {"structured_outputs", read_nothing},
    {"guided_json", read_nothing},
    {"guided_regex", read_nothing},
    {"guided_choice", read_nothing},
    {"guided_grammar", read_nothing},
};

// --- the whole -----------------------------------------------------------------------------------------------------

result<void> read_fields(simdjson::dom::object object, reading& r) {
  std::set<std::string_view> seen;
  for (auto [key, value] : object) {
    const auto row = std::find_if(std::begin(fields), std::end(fields), [key = key](const field_row& f) { return f.name == key; });
    if (row == std::end(fields)) continue;  // unknown fields are ignored, as other servers do
    if (!seen.insert(row->name).second) return wrong(std::string(key), "is there twice.");
    if (value.is_null()) continue;
    if (auto read = row->read(value, std::string(key), r); !read) return read;
  }
  return {};
}

result<parsed_request> finish(reading r) {
  if (r.has_messages && r.has_prompt) return wrong("prompt", "and `messages` exclude each other.");
  if (!r.has_messages && !r.has_prompt) return wrong(r.takes_messages ? "messages" : "prompt", "is missing.");
  if (r.top_logprobs && !r.wants_logprobs && *r.top_logprobs > 0) return wrong("top_logprobs", "needs `logprobs`.");
  if (r.wants_logprobs) r.made.what.top_logprobs = r.top_logprobs.value_or(0);
  r.made.what.max_tokens = r.max_completion_tokens ? r.max_completion_tokens : r.max_tokens;
  return std::move(r.made);
}

error not_json(simdjson::error_code problem) {
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
  if ((*object)["type"].get(kind) || (kind != "generate" && kind != "cancel")) return unreadable(wrong("type", "must be \"generate\" or \"cancel\"."));
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
