// The guard between header and body, row by row (1-5, 8-13, 37-39).
#include "support/catch.hpp"

#include "server/request_guard.hpp"

using namespace troupe::server;

namespace {

using field_list = std::vector<std::pair<std::string, std::string>>;

request_head post(field_list fields) { return {"POST", "/v1/x", 11, std::move(fields)}; }

int framing(const request_head& head) {
  const auto no = check_framing(head, 1000);
  if (no) CHECK(no->close);
  return no ? no->status : 0;
}

request_head with_host(const std::string& host) { return {"GET", "/", 11, {{"Host", host}}}; }

bool access(const std::string& method, const std::string& host, const std::string& origin,
            const access_rules& rules = {}) {
  request_head head{method, "/", 11, {{"Host", host}, {"Origin", origin}}};
  return !check_access(head, rules);
}

}  // namespace

TEST_CASE("a body framed in two ways is refused") {
  const std::pair<std::string, std::string> host{"Host", "localhost"};
  CHECK(framing(post({host, {"Content-Length", "5"}})) == 0);
  CHECK(framing(post({host, {"Transfer-Encoding", "chunked"}})) == 0);
  CHECK(framing(post({host, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}})) == 400);
  CHECK(framing(post({host, {"Transfer-Encoding", "xchunked"}, {"Content-Length", "5"}})) == 400);
  for (const char* coding : {"gzip", "identity", "xchunked", "chunked, identity", "gzip, chunked", ""})
    CHECK(framing(post({host, {"Transfer-Encoding", coding}})) == 501);
  CHECK(framing(post({host, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}})) == 400);
  CHECK(framing({"POST", "/", 10, {host, {"Transfer-Encoding", "chunked"}}}) == 400);
  for (const char* length : {"+3", "-1", "0x3", "1_0", "3, 3", "", "18446744073709551616", " 3"})
    CHECK(framing(post({host, {"Content-Length", length}})) == 400);
  CHECK(framing(post({host, {"Content-Length", "3"}, {"content-length", "3"}})) == 400);
  CHECK(framing(post({host, {"Content-Length", "1000"}})) == 0);
  CHECK(framing(post({host, {"Content-Length", "1001"}})) == 413);
  CHECK(framing(post({host, {"Content-Length", "18446744073709551615"}})) == 413);
  CHECK(framing({"GET", "/", 11, {host, {"Content-Length", "3"}}}) == 400);
}

TEST_CASE("a request names one well-formed host and a plain path") {
  for (const char* host : {"evil/?", "a@b", "a#b", "a b", "", "h\x80st"}) CHECK(framing(with_host(host)) == 400);
  CHECK(framing({"GET", "/", 11, {{"Host", "localhost"}, {"host", "localhost"}}}) == 400);
  CHECK(framing({"GET", "/", 11, {}}) == 400);
  CHECK(framing({"GET", "/", 10, {}}) == 0);
  CHECK(framing({"GET", "http://localhost/", 11, {{"Host", "localhost"}}}) == 400);
  CHECK(framing({"GET", "/\xc3\xa9", 11, {{"Host", "localhost"}}}) == 400);
  CHECK(framing({"GET", "/" + std::string(9000, 'a'), 11, {{"Host", "localhost"}}}) == 414);
  CHECK(framing({"GET", "/", 19, {{"Host", "localhost"}}}) == 505);
  field_list many(101, {"X", "y"});
  many.emplace_back("Host", "localhost");
  CHECK(framing({"GET", "/", 11, many}) == 431);
}

TEST_CASE("only loopback and listed hosts are served") {
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80"})
    CHECK_FALSE(check_access(with_host(host), {}));
  for (const char* host : {"evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "128.0.0.1", "127.0.0.1x", "[::2]",
                           "1.2.3.4", "127..1", "localhost@evil"}) {
    INFO(host);
    const auto no = check_access(with_host(host), {});
    REQUIRE(no);
    CHECK(no->status == 403);
  }
  access_rules rules;
  rules.hosts = {"box:8080", "name"};
  CHECK_FALSE(check_access(with_host("box:8080"), rules));
  CHECK_FALSE(check_access(with_host("name:1"), rules));
  CHECK(check_access(with_host("box:8081"), rules));
  rules.any_address = true;
  CHECK_FALSE(check_access(with_host("192.168.1.5:8080"), rules));
  CHECK(check_access(with_host("evil.com"), rules));
}

TEST_CASE("a page from elsewhere may change nothing") {
  CHECK(access("POST", "localhost:8080", "http://localhost:8080"));
  for (const char* origin : {"http://evil.com", "null", "http://localhost:8081", "http://localhost",
                             "http://evil-localhost:8080", "http://localhost:8080.evil.com", ""}) {
    INFO(origin);
    CHECK_FALSE(access("POST", "localhost:8080", origin));
    CHECK_FALSE(access("DELETE", "localhost:8080", origin));
    CHECK(access("GET", "localhost:8080", origin));
  }
  access_rules rules;
  rules.origins = {"https://app.example"};
  CHECK(access("POST", "localhost", "https://app.example", rules));
  CHECK_FALSE(access("POST", "localhost", "https://app.example.evil", rules));
  const request_head upgrade{
      "GET", "/v1/stream", 11, {{"Host", "localhost"}, {"Upgrade", "websocket"}, {"Origin", "null"}}};
  CHECK(check_access(upgrade, {}));
}

TEST_CASE("a body is JSON and not compressed") {
  CHECK_FALSE(check_content(post({{"Content-Type", "application/json"}})));
  CHECK_FALSE(check_content(post({{"Content-Type", "Application/JSON ; charset=utf-8"}})));
  for (const char* type : {"text/plain", "application/jsonp", "", "multipart/form-data"})
    CHECK(check_content(post({{"Content-Type", type}}))->status == 415);
  CHECK(check_content(post({}))->status == 415);
  CHECK(check_content(post({{"Content-Type", "application/json"}, {"Content-Encoding", "gzip"}}))->status == 415);
}

TEST_CASE("a query's value is found by its whole name") {
  const request_head head{"GET", "/a?xoffset=1&offset=22&offset=3", 11, {}};
  CHECK(head.path() == "/a");
  CHECK(head.query("offset") == "22");
  CHECK(head.query("off").empty());
}
