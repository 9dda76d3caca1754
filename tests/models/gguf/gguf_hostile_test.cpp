// GGUF files that lie (rows 72 to 76): each must be refused with the file's name and an offset.
#include <sys/resource.h>

#include <functional>
#include <random>

#include "models/gguf/gguf_file.hpp"
#include "support/catch.hpp"
#include "tests/models/gguf/gguf_writer.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using models::gguf_file;
using models::gguf_type;
using test::gguf_writer;

namespace {

result<gguf_file> parse(const std::string& bytes) {
  return gguf_file::parse("bad.gguf", std::as_bytes(std::span(bytes)));
}

void check_refused(const std::string& bytes) {
  // An exact copy on the heap: a sanitizer sees a read of even one byte past the end.
  const std::vector<char> exact(bytes.begin(), bytes.end());
  const auto file = gguf_file::parse("bad.gguf", std::as_bytes(std::span(exact)));
  REQUIRE_FALSE(file.ok());
  INFO(file.why().text);
  CHECK(file.why().code == errc::corrupt_file);
  CHECK(file.why().text.find("bad.gguf") == 0);
}

std::string written(const std::function<void(gguf_writer&)>& change) {
  gguf_writer writer;
  change(writer);
  return writer.bytes();
}

constexpr std::uint64_t huge = ~0ull;

}  // namespace

TEST_CASE("a file cut at any byte is refused (row 72)") {
  gguf_writer writer;
  writer.add<std::uint32_t>("number", 1);
  writer.add<std::string>("text", "words");
  writer.add_array<std::string>("texts", {"a", "bc"});
  writer.add_array<float>("floats", {1, 2, 3});
  writer.add_tensor("w", {32, 2}, 8, test::random_rows(memory::dtype::q8_0, 2, 32, 1, 1));
  writer.add_tensor("v", {4}, 0, std::string(16, '\1'));
  const std::string whole = writer.bytes();
  REQUIRE(parse(whole).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size);
    check_refused(whole.substr(0, size));
  }
}

TEST_CASE("a wrong magic, version or byte order is refused (row 72)") {
  check_refused(written([](auto& w) { w.magic = 0x46554746; }));
  for (const std::uint32_t version : {0u, 1u, 4u, 0x02000000u, 0x03000000u, 0xffffffffu}) {
    check_refused(written([version](auto& w) { w.version = version; }));
  }
  CHECK(parse(written([](auto& w) { w.version = 0x03000000; })).why().text.find("big-endian") != std::string::npos);
}

TEST_CASE("counts and lengths that the file cannot hold are refused before memory is taken (row 73)") {
  struct rusage before = {};
  getrusage(RUSAGE_SELF, &before);
  for (const std::uint64_t claim :
       {huge, huge / 2 + 1, std::uint64_t{1} << 40, std::uint64_t{1} << 20, std::uint64_t{2}}) {
    check_refused(written([claim](auto& w) { w.claimed_keys = claim; }));
    check_refused(written([claim](auto& w) { w.claimed_tensors = claim; }));
    for (const gguf_type element : {gguf_type::uint8, gguf_type::float32, gguf_type::string, gguf_type::float64}) {
      check_refused(written([&](auto& w) { w.add_array_header("a", element, claim); }));
    }
  }
  // A string's length: the key "text", its type, then the claimed length.
  for (const std::uint64_t claim : {huge, huge - 7, std::uint64_t{1} << 62, std::uint64_t{100}}) {
    std::string bytes = written([](auto& w) { w.template add<std::string>("text", "words"); });
    const std::size_t at = bytes.find("words") - 8;
    std::memcpy(bytes.data() + at, &claim, 8);
    check_refused(bytes);
  }
  struct rusage after = {};
  getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 64 * 1024);  // KiB
}

TEST_CASE("dimensions that overflow, vanish or do not fit blocks are refused (row 74)") {
  const std::string data(1024, '\0');
  const std::vector<std::vector<std::uint64_t>> shapes = {{},
                                                          {0},
                                                          {32, 0},
                                                          {huge},
                                                          {32, huge},
                                                          {std::uint64_t{1} << 32, std::uint64_t{1} << 32},
                                                          {std::uint64_t{1} << 63, 2},
                                                          {32, std::uint64_t{1} << 59},
                                                          {32, 1ull << 31, 1ull << 31, 1ull << 31},
                                                          {1, 1, 1, 1, 1},
                                                          {257}};
  for (const std::uint32_t type : {0u, 1u, 2u, 3u, 8u, 12u, 30u}) {
    for (const auto& shape : shapes) {
      if (shape == std::vector<std::uint64_t>{257} && (type == 1 || type == 30)) continue;  // fits: 514 bytes
      INFO(type << " " << shape.size());
      check_refused(written([&](auto& w) { w.add_tensor("t", shape, type, data); }));
    }
  }
}

TEST_CASE("unknown types of keys, elements and tensors are refused (row 74)") {
  for (const std::uint32_t type : {13u, 100u, 0xffffffffu}) {
    check_refused(written([type](auto& w) { w.add_array_header("a", static_cast<gguf_type>(type), 0); }));
    std::string bytes = written([](auto& w) { w.template add<std::uint8_t>("k", 1); });
    std::memcpy(bytes.data() + bytes.size() - 5, &type, 4);
    check_refused(bytes);
  }
  for (const std::uint32_t type : {4u, 5u, 31u, 36u, 64u, 0x80000000u, 0xffffffffu}) {
    check_refused(written([type](auto& w) { w.add_tensor("t", {32}, type, std::string(4096, '\0')); }));
  }
}

TEST_CASE("an alignment that is no sane power of two is refused (row 75)") {
  for (const std::uint32_t alignment : {0u, 1u, 3u, 4u, 24u, 33u, 0x80000000u, 0xffffffffu}) {
    check_refused(written([alignment](auto& w) { w.add("general.alignment", alignment); }));
  }
  check_refused(written([](auto& w) { w.template add<std::string>("general.alignment", "32"); }));
  const std::string bytes = written([](auto& w) {
    w.add("general.alignment", 256u);
    w.alignment = 256;
    w.add_tensor("a", {4}, 0, std::string(16, '\1'));
    w.add_tensor("b", {4}, 0, std::string(16, '\2'));
  });
  const auto padded = parse(bytes);
  REQUIRE(padded.ok());
  CHECK(padded->find_tensor("b")->offset % 256 == 0);
}

TEST_CASE("duplicate keys, duplicate tensors, empty names and nested arrays are refused (row 75)") {
  check_refused(written([](auto& w) { w.add("k", 1u), w.add("k", 2u); }));
  check_refused(written([](auto& w) { w.add("", 1u); }));
  const std::string data(16, '\0');
  check_refused(written([&](auto& w) { w.add_tensor("t", {4}, 0, data), w.add_tensor("t", {4}, 0, data); }));
  check_refused(written([&](auto& w) { w.add_tensor("", {4}, 0, data); }));
  check_refused(written([](auto& w) {
    w.add_array_header("a", gguf_type::array, 1);
    for (int depth = 0; depth < 10'000; ++depth) w.add_raw(std::string("\x09\0\0\0\x01\0\0\0\0\0\0\0", 12));
  }));
}

TEST_CASE("tensors outside the file, unaligned or overlapping are refused (row 76)") {
  const std::string data(64, '\0');
  for (const std::uint64_t offset : {huge, huge - 31, huge / 2 + 1, std::uint64_t{1}, std::uint64_t{31},
                                     std::uint64_t{32}, std::uint64_t{64}, std::uint64_t{1} << 40}) {
    INFO(offset);
    check_refused(written([&](auto& w) { w.add_tensor("t", {16}, 0, data, offset); }));
  }
  check_refused(written([&](auto& w) { w.add_tensor("a", {16}, 0, data), w.add_tensor("b", {16}, 0, data, 32); }));
  check_refused(written([&](auto& w) { w.add_tensor("a", {16}, 0, data), w.add_tensor("b", {16}, 0, data, 0); }));
}

TEST_CASE("random damage to a model's header never reads outside the file") {
  const std::string whole = test::make_tiny_model().bytes();
  std::mt19937 random(3);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<char> bytes(whole.begin(), whole.end());
    const std::size_t header = 16'000;
    for (int i = 0; i < 3; ++i) bytes[random() % (round % 2 ? header : 64)] = static_cast<char>(random());
    const auto file = gguf_file::parse("bad.gguf", std::as_bytes(std::span(bytes)));
    refused += !file.ok();
    if (!file.ok()) continue;
    for (const auto& tensor : file->tensors()) {
      REQUIRE(tensor.offset >= 0);
      REQUIRE(tensor.offset + tensor.bytes <= file->size());
    }
  }
  CHECK(refused > 1000);
}
