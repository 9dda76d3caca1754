// Client JSON: what is read, and what is refused with which field named (rows 47-57).
#include "support/catch.hpp"

#include "server/chat_request.hpp"

using namespace troupe;
using namespace troupe::server;

namespace {

std::string chat_with(const std::string& more) {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (more.empty() ? "" : "," + more) + "}";
}

struct refused_row {
  std::string body;
  std::string param;
  errc code = errc::invalid_argument;
};

std::string nested(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') + std::string(static_cast<std::size_t>(depth), ']');
}

}  // namespace

TEST_CASE("every field of a chat request arrives") {
  const auto read = parse_chat(
      R"({"model":"m","messages":[{"role":"developer","content":"be brief"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":null}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":9,"max_completion_tokens":7,"temperature":0.5,
      "top_p":0.25,"top_k":40,"min_p":0.125,"repetition_penalty":1.5,"presence_penalty":-2,"frequency_penalty":2,"logit_bias":{"5":-100,"6":1.5},"seed":-1,
      "stop":["x","y"],"logprobs":true,"top_logprobs":3,"ignore_eos":true,"n":1,"user":"u","store":true,"metadata":{"a":"b"},"parallel_tool_calls":true,
      "tools":[],"tool_choice":"none","response_format":{"type":"text"},"unknown":[1,2]})");
  REQUIRE(read.ok());
  const auto& messages = std::get<chat_prompt>(read->what.prompt);
  REQUIRE(messages.size() == 3);
  CHECK(messages[0].role == "system");
  CHECK(messages[1].content == "ab");
  CHECK(messages[2].content.empty());
  CHECK(read->model == "m");
  CHECK(read->stream);
  CHECK(read->include_usage);
  CHECK(read->what.max_tokens == 7);
  CHECK(read->what.how.temperature == 0.5f);
  CHECK(read->what.how.top_p == 0.25f);
  CHECK(read->what.how.top_k == 40);
  CHECK(read->what.how.min_p == 0.125f);
  CHECK(read->what.how.repetition_penalty == 1.5f);
  CHECK(read->what.how.presence_penalty == -2.0f);
  CHECK(read->what.how.frequency_penalty == 2.0f);
  CHECK(read->what.how.logit_bias == std::vector<std::pair<std::int32_t, float>>{{5, -100.0f}, {6, 1.5f}});
  CHECK(read->what.how.seed == ~0ull);
  CHECK(read->what.stop == std::vector<std::string>{"x", "y"});
  CHECK(read->what.top_logprobs == 3);
  CHECK(read->what.ignore_eos);
}

TEST_CASE("null stands for absent in every field") {
  for (const char* name :
       {"model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "logit_bias", "seed", "stop",
        "logprobs", "n", "tools", "tool_choice", "response_format", "user", "functions", "audio", "modalities"}) {
    INFO(name);
    CHECK(parse_chat(chat_with("\"" + std::string(name) + "\":null")).ok());
  }
}

TEST_CASE("a wrong type or value is refused with its field's name") {
  const std::vector<refused_row> rows = {
      {R"({})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":[1]})", "messages[0]"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":"x"},{"role":7,"content":"x"}]})", "messages[1].role"},
      {R"({"messages":[{"role":"wizard","content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"tool","content":"x"}]})", "messages[0].role", errc::unsupported},
      {R"({"messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":null}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":7}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":"\ud800"}]})", ""},
      {R"({"messages":[{"role":"user","content":"\udc00"}]})", ""},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]})",
       "messages[0].content[0].type", errc::unsupported},
      {R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text"},
      {R"({"messages":[{"role":"assistant","content":"x","tool_calls":[{}]}]})", "messages[0].tool_calls",
       errc::unsupported},
      {chat_with(R"("model":7)"), "model"},
      {chat_with("\"model\":\"" + std::string(2000, 'a') + "\""), "model"},
      {chat_with(R"("stream":"yes")"), "stream"},
      {chat_with(R"("stream_options":true)"), "stream_options"},
      {chat_with(R"("stream_options":{"include_usage":1})"), "stream_options.include_usage"},
      {chat_with(R"("max_tokens":0)"), "max_tokens"},
      {chat_with(R"("max_tokens":-1)"), "max_tokens"},
      {chat_with(R"("max_tokens":1.5)"), "max_tokens"},
      {chat_with(R"("max_tokens":2147483648)"), "max_tokens"},
      {chat_with(R"("max_tokens":9223372036854775808)"), "max_tokens"},
      {chat_with(R"("max_completion_tokens":"9")"), "max_completion_tokens"},
      {chat_with(R"("temperature":"hot")"), "temperature"},
      {chat_with(R"("temperature":2.5)"), "temperature"},
      {chat_with(R"("temperature":-1)"), "temperature"},
      {chat_with(R"("temperature":1e308)"), "temperature"},
      {chat_with(R"("top_p":0)"), "top_p"},
      {chat_with(R"("top_p":1.01)"), "top_p"},
      {chat_with(R"("top_k":-1)"), "top_k"},
      {chat_with(R"("min_p":2)"), "min_p"},
      {chat_with(R"("repetition_penalty":0)"), "repetition_penalty"},
      {chat_with(R"("presence_penalty":3)"), "presence_penalty"},
      {chat_with(R"("frequency_penalty":-2.5)"), "frequency_penalty"},
      {chat_with(R"("logit_bias":[1])"), "logit_bias"},
      {chat_with(R"("logit_bias":{"a":1})"), "logit_bias"},
      {chat_with(R"("logit_bias":{"-1":1})"), "logit_bias"},
      {chat_with(R"("logit_bias":{"9999999999":1})"), "logit_bias"},
      {chat_with(R"("logit_bias":{"1":101})"), "logit_bias"},
      {chat_with(R"("seed":1.5)"), "seed"},
      {chat_with(R"("stop":7)"), "stop"},
      {chat_with(R"("stop":"")"), "stop"},
      {chat_with(R"("stop":["a",7])"), "stop[1]"},
      {chat_with("\"stop\":\"" + std::string(257, 'a') + "\""), "stop"},
      {chat_with(R"("stop":["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"])"), "stop"},
      {chat_with(R"("logprobs":3)"), "logprobs"},
      {chat_with(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs"},
      {chat_with(R"("top_logprobs":2)"), "top_logprobs"},
      {chat_with(R"("ignore_eos":1)"), "ignore_eos"},
      {chat_with(R"("user":[])"), "user"},
      {chat_with(R"("n":0)"), "n"},
      {chat_with(R"("n":"2")"), "n"},
      {chat_with(R"("n":2)"), "n", errc::unsupported},
      {chat_with(R"("n":1000000000)"), "n", errc::unsupported},
      {chat_with(R"("tools":[{"type":"function"}])"), "tools", errc::unsupported},
      {chat_with(R"("grammar":"root ::= x")"), "grammar", errc::unsupported},
      {chat_with(R"("guided_choice":["a","b"])"), "guided_choice", errc::unsupported},
      {chat_with(R"("chat_template_kwargs":{"a":1})"), "chat_template_kwargs", errc::unsupported},
      {chat_with(R"("tool_choice":"required")"), "tool_choice", errc::unsupported},
      {chat_with(R"("functions":[{}])"), "functions", errc::unsupported},
      {chat_with(R"("response_format":{"type":"json_object"})"), "response_format", errc::unsupported},
      {chat_with(R"("modalities":["text","audio"])"), "modalities", errc::unsupported},
      {chat_with(R"("audio":{"voice":"x"})"), "audio", errc::unsupported},
      {chat_with(R"("seed":1,"seed":2)"), "seed"},
  };
  for (const auto& row : rows) {
    INFO(row.body.substr(0, 200));
    const auto read = parse_chat(row.body);
    REQUIRE_FALSE(read.ok());
    CHECK(read.why().param == row.param);
    CHECK(read.why().code == row.code);
    CHECK_FALSE(read.why().text.empty());
  }
}

TEST_CASE("what is not one sound JSON object is refused") {
  const std::vector<std::string> bodies = {"",
                                           " ",
                                           "nonsense",
                                           "[]",
                                           "7",
                                           "null",
                                           "{",
                                           R"({"messages":)",
                                           chat_with("") + "x",
                                           chat_with("") + "{}",
                                           "\xEF\xBB\xBF" + chat_with(""),
                                           chat_with(R"("temperature":NaN)"),
                                           chat_with(R"("temperature":1e400)"),
                                           chat_with(R"("user":")" + std::string("\xff") + "\""),
                                           chat_with(R"("user":")" + std::string("\x01") + "\""),
                                           chat_with("\"metadata\":" + nested(64)),
                                           chat_with("\"tools\":" + nested(3000)),
                                           nested(60000),
                                           std::string(60000, '[')};
  for (const auto& body : bodies) {
    INFO(body.substr(0, 100));
    CHECK_FALSE(parse_chat(body).ok());
  }
}

TEST_CASE("a prompt is a string, one token list, or a list of one prompt") {
  CHECK(std::get<text_prompt>(parse_completion(R"({"prompt":"once"})")->what.prompt) == "once");
  CHECK(std::get<text_prompt>(parse_completion(R"({"prompt":["once"]})")->what.prompt) == "once");
  CHECK(std::get<token_prompt>(parse_completion(R"({"prompt":[1,2,3]})")->what.prompt) == token_prompt{1, 2, 3});
  CHECK(std::get<token_prompt>(parse_completion(R"({"prompt":[[1,2]]})")->what.prompt) == token_prompt{1, 2});
  CHECK(parse_completion(R"({"prompt":"x","logprobs":0})")->what.top_logprobs == 0);
  const std::vector<refused_row> rows = {{R"({})", "prompt"},
                                         {R"({"prompt":""})", "prompt"},
                                         {R"({"prompt":[]})", "prompt"},
                                         {R"({"prompt":7})", "prompt"},
                                         {R"({"prompt":[-1]})", "prompt[0]"},
                                         {R"({"prompt":[1,9223372036854775808]})", "prompt[1]"},
                                         {R"({"prompt":["a","b"]})", "prompt", errc::unsupported},
                                         {R"({"prompt":"x","echo":true})", "echo", errc::unsupported},
                                         {R"({"prompt":"x","best_of":2})", "best_of", errc::unsupported},
                                         {R"({"prompt":"x","suffix":"y"})", "suffix", errc::unsupported},
                                         {R"({"prompt":"x","logprobs":21})", "logprobs"}};
  for (const auto& row : rows) {
    INFO(row.body);
    const auto read = parse_completion(row.body);
    REQUIRE_FALSE(read.ok());
    CHECK(read.why().param == row.param);
    CHECK(read.why().code == row.code);
  }
}

TEST_CASE("a generation takes messages or a prompt, not both") {
  CHECK(parse_generation(R"({"prompt":"x"})").ok());
  CHECK(parse_generation(chat_with("")).ok());
  CHECK(parse_generation(chat_with(R"("prompt":"x")")).why().param == "prompt");
  CHECK(std::holds_alternative<chat_prompt>(parse_chat(chat_with(R"("prompt":"x")"))->what.prompt));
}

TEST_CASE("a frame's id is read even where the rest is wrong") {
  const auto wrong = parse_client_message(R"({"type":"generate","id":"a","messages":[],"temperature":"hot"})");
  CHECK(wrong.what == client_message::kind::unreadable);
  CHECK(wrong.id == "a");
  CHECK(parse_client_message(R"({"type":"dance","id":"a"})").wrong.param == "type");
  CHECK(parse_client_message(R"({"type":"cancel"})").wrong.param == "id");
  CHECK(parse_client_message(R"({"type":"cancel","id":"a"})").what == client_message::kind::cancel);
  CHECK(parse_client_message(R"({"type":"generate","id":"a","prompt":"x","max_tokens":3})").ask.what.max_tokens == 3);
  CHECK(parse_client_message("nonsense").what == client_message::kind::unreadable);
}

TEST_CASE("what identifies a client or its records has a size, and a salt is not ignored (row 57)") {
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key", "request_id", "cache_salt"}) {
    INFO(name);
    const auto of = [&](std::size_t size) {
      return parse_chat(chat_with("\"" + std::string(name) + "\":\"" + std::string(size, 'x') + "\""));
    };
    const auto large = of(1 << 20);
    REQUIRE_FALSE(large.ok());
    CHECK(large.why().param == name);
    CHECK(large.why().text.size() < 200);
    CHECK(of(0).ok());
    CHECK(of(1024).ok() == (std::string(name) != "cache_salt"));
    CHECK_FALSE(parse_chat(chat_with("\"" + std::string(name) + "\":[1]")).ok());
  }
  CHECK(parse_chat(chat_with(R"("cache_salt":"tenant")")).why().code == errc::unsupported);

  const auto metadata = [](const std::string& object) { return parse_chat(chat_with("\"metadata\":" + object)); };
  const auto pairs = [](int n) {
    std::string all;
    for (int i = 0; i < n; ++i) all += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + "\":\"v\"";
    return "{" + all + "}";
  };
  CHECK(metadata(pairs(16)).ok());
  CHECK(metadata(pairs(17)).why().param == "metadata");
  CHECK(metadata("{\"a\":\"" + std::string(512, 'x') + "\"}").ok());
  CHECK(metadata("{\"a\":\"" + std::string(513, 'x') + "\"}").why().param == "metadata.a");
  CHECK(metadata("{\"" + std::string(65, 'k') + "\":\"v\"}").why().param == "metadata");
  CHECK(metadata(R"({"a":7})").why().param == "metadata.a");
  CHECK(metadata(R"("text")").why().param == "metadata");
}
