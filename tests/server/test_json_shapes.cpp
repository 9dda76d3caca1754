// The JSON that leaves the server, and the error table behind it.
#include "support/catch.hpp"

#include <set>

#include "server/error_table.hpp"
#include "server/generation_json.hpp"
#include "server/openai_json.hpp"

using namespace troupe;
using namespace troupe::server;

TEST_CASE("every error has a status, a type and a close code") {
  for (int i = 0; i <= static_cast<int>(errc::internal); ++i) {
    const auto row = row_of(static_cast<errc>(i));
    CHECK(row.status >= 400);
    CHECK(row.status < 600);
    CHECK(reason_phrase(row.status) != "Error");
    CHECK_FALSE(row.type.empty());
    CHECK(row.close_code >= 1000);
  }
  CHECK(row_of(errc::overloaded).status == 429);
  CHECK(row_of(errc::context_length_exceeded).status == 400);
  CHECK(row_of(errc::shutting_down).close_code == 1001);
}

TEST_CASE("an error has OpenAI's four fields") {
  CHECK(error_body({errc::invalid_argument, "No \"x\".", "n"}) ==
        R"({"error":{"message":"No \"x\".","type":"invalid_request_error","param":"n","code":"invalid_argument"}})");
  CHECK(error_body({errc::internal, "Oh.", ""}) ==
        R"({"error":{"message":"Oh.","type":"server_error","param":null,"code":"internal"}})");
  CHECK(error_body({errc::not_found, "No.", "model"}).find("\"model_not_found\"") != std::string::npos);
}

TEST_CASE("a token that is part of a code point stays exact in bytes and valid in text") {
  answer_head head{dialect::chat, "chatcmpl-1", 5, "m", false, true};
  event e;
  e.text = "\xC3\xA9";
  e.logprobs = {{1, "\xC3", -0.25f, {{"\xC3", -0.25f}}, {1}}, {2, "\xA9", -INFINITY, {}, {}}};
  const auto chunk = delta_chunk(head, e, 0);
  CHECK(chunk.find(R"("delta":{"content":"é"})") != std::string::npos);
  CHECK(
      chunk.find(
          R"({"token":"�","logprob":-0.25,"bytes":[195],"top_logprobs":[{"token":"�","logprob":-0.25,"bytes":[195]}]})") !=
      std::string::npos);
  CHECK(chunk.find(R"("logprob":-9999,"bytes":[169])") != std::string::npos);
}

TEST_CASE("completion log-probabilities count code points and repeat no name") {
  answer_head head{dialect::completion, "cmpl-1", 5, "m", false, true};
  const std::vector<token_logprob> tokens = {{1, "é", -0.5f, {{"é", -0.5f}, {"\xC3", -1.0f}, {"\xA9", -2.0f}}, {}},
                                             {2, "b", -1.0f, {}, {}}};
  const auto answer = whole_answer(head, "éb", tokens, finish_reason::length, {3, 0, 2});
  CHECK(answer.find(R"("text_offset":[0,1])") != std::string::npos);
  CHECK(answer.find(R"("top_logprobs":[{"é":-0.5,"�":-1},{}])") != std::string::npos);
  CHECK(answer.find(R"("finish_reason":"length")") != std::string::npos);
  CHECK(answer.find(R"("total_tokens":5)") != std::string::npos);
}

TEST_CASE("a generation's name reads back and no other spelling does") {
  for (generation_id id : {generation_id{1}, generation_id{0xabcdef0123456789}, ~generation_id{0}})
    CHECK(generation_of(generation_name(id)) == id);
  CHECK(generation_name(0xabc) == "gen-0000000000000abc");
  for (const char* name : {"", "gen-", "gen-0000000000000000", "gen-0000000000000ABC", "gen-00000000000000abc",
                           "gen-000000000000abc", "gem-0000000000000abc", "gen-+000000000000abc"})
    CHECK_FALSE(generation_of(name));
}
