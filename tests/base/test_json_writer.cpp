// json_writer against simdjson: whatever goes in, what comes out parses, and reads back as what was meant.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <string>

#include <simdjson.h>

#include "base/json_writer.hpp"
#include "support/catch.hpp"

namespace {

using troupe::base::append_json_string;
using troupe::base::json_writer;

std::string written(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::string read_back(const std::string& json) {
  simdjson::dom::parser parser;
  simdjson::dom::element parsed;
  REQUIRE(parser.parse(json).get(parsed) == simdjson::SUCCESS);  // simdjson also refuses broken UTF-8
  return std::string(std::string_view(parsed));
}

std::string random_bytes(std::mt19937_64& random, bool valid) {
  std::string text;
  const auto length = random() % 64;
  for (std::size_t i = 0; i < length; ++i) {
    if (!valid) {
      // Bytes near the borders of table 3-7 are likelier than chance would make them.
      static const std::string edges("\xC1\xC2\xDF\xE0\xED\xEF\xF0\xF4\xF5\x80\x8F\x90\x9F\xA0\xBF\xC0\"\\\0\x1F\x7F",
                                     21);
      text += random() % 2 ? static_cast<char>(random()) : edges[random() % edges.size()];
      continue;
    }
    static const std::string points[] = {"a",
                                         "\"",
                                         "\\",
                                         "\n",
                                         std::string(1, '\0'),
                                         "\x1b",
                                         "\x7f",
                                         "\xC2\x80",
                                         "\xC3\xA9",
                                         "\xE0\xA0\x80",
                                         "\xED\x9F\xBF",
                                         "\xEE\x80\x80",
                                         "\xE2\x80\xA8",
                                         "\xE2\x80\xA9",
                                         "\xEF\xBF\xBF",
                                         "\xF0\x90\x80\x80",
                                         "\xF4\x8F\xBF\xBF"};
    text += points[random() % std::size(points)];
  }
  return text;
}

}  // namespace

TEST_CASE("valid text of any kind reads back as it was") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const auto text = random_bytes(random, true);
    REQUIRE(read_back(written(text)) == text);
  }
}

TEST_CASE("every byte alone and every pair of bytes comes out as JSON that parses") {
  for (int a = 0; a < 256; ++a) {
    REQUIRE_NOTHROW(read_back(written(std::string(1, static_cast<char>(a)))));
    for (int b = 0; b < 256; ++b) {
      const std::string both{static_cast<char>(a), static_cast<char>(b)};
      const auto back = read_back(written(both));
      if (a < 0x80 && b < 0x80) REQUIRE(back == both);
    }
  }
}

TEST_CASE("broken UTF-8 never comes out, and writing twice changes nothing") {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20000; ++i) {
    const auto once = read_back(written(random_bytes(random, false)));
    REQUIRE(read_back(written(once)) == once);
  }
}

TEST_CASE("each maximal broken sequence becomes one replacement character") {
  const std::string r = "\xEF\xBF\xBD";
  // The examples of Unicode 15, tables 3-8 to 3-11.
  CHECK(read_back(written("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                          "A")) == r + r + r + r + r + r + r + r + "A");
  CHECK(read_back(written("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                          "A")) == r + r + r + r + r + r + r + r + "A");
  CHECK(read_back(written("\xF4\x91\x92\x93\xFF"
                          "A\x80\xBF"
                          "B")) == r + r + r + r + r + "A" + r + r + "B");
  CHECK(read_back(written("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                          "A")) == r + r + r + r + "A");
}

TEST_CASE("line separators are escaped for those who paste JSON into scripts") {
  CHECK(written("\xE2\x80\xA8\xE2\x80\xA9") == "\"\\u2028\\u2029\"");
}

TEST_CASE("doubles and floats read back exactly") {
  std::mt19937_64 random(3);
  for (int i = 0; i < 20000; ++i) {
    const auto bits = random();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    std::string out;
    troupe::base::append_json_number(out, value);
    REQUIRE(std::strtod(out.c_str(), nullptr) == value);
    simdjson::dom::parser parser;
    double parsed = 0;
    REQUIRE(parser.parse(out).get(parsed) == simdjson::SUCCESS);
    REQUIRE(parsed == value);
  }
  std::string out;
  troupe::base::append_json_number(out, 0.1f);
  CHECK(out == "0.1");
}

TEST_CASE("what JSON has no word for becomes null") {
  std::string out;
  json_writer(out)
      .begin_array()
      .value(std::numeric_limits<double>::quiet_NaN())
      .value(std::numeric_limits<float>::infinity())
      .value(-std::numeric_limits<double>::infinity())
      .end_array();
  CHECK(out == "[null,null,null]");
}

TEST_CASE("commas and colons stand where they belong") {
  std::string out;
  json_writer json(out);
  json.begin_object().field("id", 7).key("list").begin_array().value("a").begin_object().end_object().begin_array();
  json.end_array().value(true).null().raw("{\"x\":1}").end_array();
  json.field("min", std::numeric_limits<std::int64_t>::min()).field("max", std::numeric_limits<std::uint64_t>::max());
  json.field("text", std::string("q\"")).end_object();
  CHECK(out == R"({"id":7,"list":["a",{},[],true,null,{"x":1}],"min":-9223372036854775808,)"
               R"("max":18446744073709551615,"text":"q\""})");
}
