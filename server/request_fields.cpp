// The table of fields.
#include "server/request_fields.hpp"

#include <algorithm>
#include <charconv>
#include <set>

namespace troupe::server {
namespace {

constexpr std::size_t max_stops = 16, max_stop_bytes = 256, max_biases = 1024, max_name_bytes = 1024;
constexpr std::size_t max_metadata = 16, max_metadata_key = 64, max_metadata_value = 512;  ///< pairs; bytes

using reader = result<void> (*)(element, const std::string& name, reading&);

struct field_row {
  std::string_view name;
  reader read;
};

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
    if (problem != std::errc() || end != key.data() + key.size() || id < 0)
      return wrong(param, "has a key that is not a token id.");
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

/// Whom a request is for, in the client's words: accepted and not kept.
result<void> read_label(element e, const std::string& param, reading&) {
  auto label = read_text(e, param, max_name_bytes);
  if (!label) return std::move(label).why();
  return {};
}

/// Likewise, with OpenAI's limits.
result<void> read_metadata(element e, const std::string& param, reading&) {
  simdjson::dom::object object;
  if (e.get(object)) return wrong(param, "must be an object of strings.");
  std::size_t pairs = 0;
  for (auto [key, value] : object) {
    if (++pairs > max_metadata) return wrong(param, "holds more than 16 pairs.");
    if (key.size() > max_metadata_key) return wrong(param, "has a key longer than 64 bytes.");
    auto text = read_text(value, param + "." + std::string(key), max_metadata_value);
    if (!text) return std::move(text).why();
  }
  return {};
}

/// Whoever sends a salt relies on it: it is refused rather than ignored.
result<void> read_cache_salt(element e, const std::string& param, reading&) {
  auto salt = read_text(e, param, max_name_bytes);
  if (!salt) return std::move(salt).why();
  if (salt->empty()) return {};
  return not_offered(
      param,
      "is not offered: all requests share one prefix cache, unless the server is started with --no-prefix-cache.");
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
    const auto is_text = [](element each) {
      return std::string_view(each.is_string() ? each.get_c_str().value() : "") == "text";
    };
    const bool only_text = param == "modalities" && std::all_of(list.begin(), list.end(), is_text);
    if (list.size() == 0 || only_text) return {};
  }
  if (param == "response_format" && !e.get(object) && !object["type"].get(text) && text == "text") return {};
  return not_offered(param, "is not offered.");
}

constexpr std::int64_t int32_max = std::numeric_limits<std::int32_t>::max();

constexpr field_row fields[] = {
    {"messages", read_messages},
    {"prompt", read_prompt},
    {"model",
     [](element e, const std::string& p, reading& r) { return store(read_text(e, p, max_name_bytes), r.made.model); }},
    {"stream", [](element e, const std::string& p, reading& r) { return store(read_flag(e, p), r.made.stream); }},
    {"stream_options", read_stream_options},
    {"max_tokens", [](element e, const std::string& p,
                      reading& r) { return store(read_whole(e, p, 1, int32_max), r.max_tokens.emplace()); }},
    {"max_completion_tokens",
     [](element e, const std::string& p, reading& r) {
       return store(read_whole(e, p, 1, int32_max), r.max_completion_tokens.emplace());
     }},
    {"temperature", [](element e, const std::string& p,
                       reading& r) { return store(read_number(e, p, 0, 2), r.made.what.how.temperature); }},
    {"top_p",
     [](element e, const std::string& p, reading& r) -> result<void> {
       auto stored = store(read_number(e, p, 0, 1), r.made.what.how.top_p);
       if (stored && r.made.what.how.top_p <= 0) return wrong(p, "must be over 0.");
       return stored;
     }},
    {"top_k", [](element e, const std::string& p,
                 reading& r) { return store(read_whole(e, p, 0, int32_max), r.made.what.how.top_k); }},
    {"min_p",
     [](element e, const std::string& p, reading& r) { return store(read_number(e, p, 0, 1), r.made.what.how.min_p); }},
    {"repetition_penalty",
     [](element e, const std::string& p, reading& r) -> result<void> {
       auto stored = store(read_number(e, p, 0, 10), r.made.what.how.repetition_penalty);
       if (stored && r.made.what.how.repetition_penalty <= 0) return wrong(p, "must be over 0.");
       return stored;
     }},
    {"presence_penalty", [](element e, const std::string& p,
                            reading& r) { return store(read_number(e, p, -2, 2), r.made.what.how.presence_penalty); }},
    {"frequency_penalty",
     [](element e, const std::string& p, reading& r) {
       return store(read_number(e, p, -2, 2), r.made.what.how.frequency_penalty);
     }},
    {"logit_bias", read_logit_bias},
    {"seed", read_seed},
    {"stop", read_stop},
    {"logprobs", read_logprobs},
    {"top_logprobs", [](element e, const std::string& p,
                        reading& r) { return store(read_whole(e, p, 0, 20), r.top_logprobs.emplace()); }},
    {"ignore_eos",
     [](element e, const std::string& p, reading& r) { return store(read_flag(e, p), r.made.what.ignore_eos); }},
    {"user", read_label},
    {"safety_identifier", read_label},
    {"prompt_cache_key", read_label},
    {"request_id", read_label},
    {"metadata", read_metadata},
    {"cache_salt", read_cache_salt},
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

}  // namespace

result<void> read_fields(simdjson::dom::object object, reading& r) {
  std::set<std::string_view> seen;
  for (auto [key, value] : object) {
    const auto row =
        std::find_if(std::begin(fields), std::end(fields), [key = key](const field_row& f) { return f.name == key; });
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

}  // namespace troupe::server
