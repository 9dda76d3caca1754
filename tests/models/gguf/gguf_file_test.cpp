// Reading well-formed GGUF files: metadata of every type, tensors of every readable type, errors that name the key.
#include "models/gguf/gguf_file.hpp"

#include <algorithm>

#include "support/catch.hpp"
#include "tests/models/gguf/gguf_writer.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using models::gguf_file;
using models::gguf_type;
using test::gguf_writer;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

}  // namespace

TEST_CASE("integers of every width read as one kind, and negative ones are refused") {
  gguf_writer writer;
  writer.add<std::uint8_t>("u8", 200);
  writer.add<std::int8_t>("i8", 100);
  writer.add<std::uint16_t>("u16", 60000);
  writer.add<std::int16_t>("i16", 30000);
  writer.add<std::uint32_t>("u32", 4000000000u);
  writer.add<std::int32_t>("i32", 2000000000);
  writer.add<std::uint64_t>("u64", ~0ull);
  writer.add<std::int64_t>("i64", INT64_MAX);
  writer.add<std::int32_t>("negative", -1);
  const std::string bytes = writer.bytes();
  const auto file = gguf_file::parse("f", bytes_of(bytes));
  REQUIRE(file.ok());
  CHECK(*file->unsigned_integer("u8") == 200);
  CHECK(*file->unsigned_integer("i8") == 100);
  CHECK(*file->unsigned_integer("u16") == 60000);
  CHECK(*file->unsigned_integer("i16") == 30000);
  CHECK(*file->unsigned_integer("u32") == 4000000000u);
  CHECK(*file->unsigned_integer("i32") == 2000000000);
  CHECK(*file->unsigned_integer("u64") == ~0ull);
  CHECK(*file->unsigned_integer("i64") == static_cast<std::uint64_t>(INT64_MAX));
  CHECK(file->unsigned_integer("negative").why().code == errc::corrupt_file);
}

TEST_CASE("the other kinds of metadata read back as written, in versions 2 and 3") {
  for (const std::uint32_t version : {2u, 3u}) {
    gguf_writer writer;
    writer.version = version;
    writer.add("f32", 1.5f);
    writer.add("f64", 2.25);
    writer.add("yes", true);
    writer.add<std::string>("text", "caf\xc3\xa9");
    writer.add_array<std::int32_t>("numbers", {1, -2, 3});
    writer.add_array<std::string>("texts", {"a", "", "ccc"});
    writer.add_array<std::string>("none", {});
    const std::string bytes = writer.bytes();
    const auto file = gguf_file::parse("f", bytes_of(bytes));
    REQUIRE(file.ok());
    CHECK(*file->number("f32") == 1.5);
    CHECK(*file->number("f64") == 2.25);
    CHECK(*file->boolean("yes"));
    CHECK(*file->string("text") == "caf\xc3\xa9");
    const auto numbers = file->array("numbers", gguf_type::int32);
    REQUIRE(numbers.ok());
    CHECK(numbers->count == 3);
    CHECK(numbers->at<std::int32_t>(1) == -2);
    CHECK(file->array("texts", gguf_type::string)->strings() == std::vector<std::string_view>{"a", "", "ccc"});
    CHECK(file->array("none", gguf_type::string)->strings().empty());
    CHECK(*file->unsigned_integer_or("absent", 7) == 7);
    CHECK(*file->string_or("absent", "x") == "x");
  }
}

TEST_CASE("a missing key and a key of the wrong type are named (row 77)") {
  gguf_writer writer;
  writer.add("some.key", 1.5f);
  writer.add_array<std::int8_t>("scores", {1, 2});
  const std::string bytes = writer.bytes();
  const auto file = gguf_file::parse("model.gguf", bytes_of(bytes));
  REQUIRE(file.ok());
  const auto check = [](const error& why, const std::string& key) {
    INFO(why.text);
    CHECK(why.code == errc::corrupt_file);
    CHECK(why.text.find("model.gguf") == 0);
    CHECK(why.text.find("\"" + key + "\"") != std::string::npos);
  };
  check(file->unsigned_integer("gone").why(), "gone");
  check(file->string("gone").why(), "gone");
  check(file->unsigned_integer("some.key").why(), "some.key");
  check(file->boolean("some.key").why(), "some.key");
  check(file->string("some.key").why(), "some.key");
  check(file->string_or("some.key", "").why(), "some.key");
  check(file->array("some.key", gguf_type::float32).why(), "some.key");
  check(file->number("scores").why(), "scores");
  check(file->array("scores", gguf_type::float32).why(), "scores");
}

TEST_CASE("tensors of every readable type are found with their shape and bytes") {
  using memory::dtype;
  gguf_writer writer;
  const std::vector<std::pair<dtype, std::uint32_t>> types = {
      {dtype::f32, 0},   {dtype::f16, 1},     {dtype::bf16, 30},   {dtype::q4_0, 2},
      {dtype::q4_1, 3},  {dtype::q5_0, 6},    {dtype::q5_1, 7},    {dtype::q8_0, 8},
      {dtype::q2_k, 10}, {dtype::q3_k, 11},   {dtype::q4_k, 12},   {dtype::q5_k, 13},
      {dtype::q6_k, 14}, {dtype::iq4_nl, 20}, {dtype::iq4_xs, 23}, {dtype::mxfp4, 39}};
  std::vector<std::string> contents;
  for (const auto& [type, number] : types) {
    contents.push_back(test::random_rows(type, 3, 256, 1.0f, number));
    writer.add_tensor(std::string(memory::info(type).name), {256, 3}, number, contents.back());
  }
  const std::string bytes = writer.bytes();
  const auto file = gguf_file::parse("f", bytes_of(bytes));
  REQUIRE(file.ok());
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto view = file->view(memory::info(types[i].first).name);
    REQUIRE(view.ok());
    CHECK(view->type == types[i].first);
    CHECK(view->rows == 3);
    CHECK(view->cols == 256);
    CHECK(std::string(static_cast<const char*>(view->data), static_cast<std::size_t>(view->bytes())) == contents[i]);
  }
}

TEST_CASE("a tensor of a type that is known but not computed with is listed, and named when used") {
  const std::vector<std::string> names = {"Q8_1",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
                                          "IQ3_S", "IQ2_S", "I8",      "I16",    "I32",     "I64",
                                          "F64",   "IQ1_M", "TQ1_0",   "TQ2_0",  "NVFP4",   "Q1_0"};
  std::size_t refused = 0;
  for (std::uint32_t number = 0; number < 64; ++number) {
    const models::ggml_type_info* type = models::find_ggml_type(number);
    if (type == nullptr || type->readable) continue;
    gguf_writer writer;
    writer.add_tensor("blk.0.attn_q.weight", {256, 2}, number,
                      std::string(512 / type->block * type->block_bytes, '\0'));
    const std::string bytes = writer.bytes();
    const auto file = gguf_file::parse("f", bytes_of(bytes));
    REQUIRE(file.ok());
    REQUIRE(file->tensors().size() == 1);
    const auto view = file->view("blk.0.attn_q.weight");
    REQUIRE_FALSE(view.ok());
    CHECK(view.why().code == errc::unsupported);
    CHECK(view.why().text.find("has type " + std::string(type->name) + ";") != std::string::npos);
    CHECK(view.why().text.find("blk.0.attn_q.weight") != std::string::npos);
    CHECK(view.why().text.find("Q4_1, Q5_0") != std::string::npos);
    CHECK(file->view("output.weight").why().code == errc::corrupt_file);
    refused += std::find(names.begin(), names.end(), type->name) != names.end();
  }
  CHECK(refused == names.size());
}

TEST_CASE("a header is read to its end however long it is") {
  for (const std::size_t megabytes : {1, 3, 9}) {
    gguf_writer writer;
    writer.add<std::string>("general.architecture", "llama");
    writer.add<std::string>("long", std::string(megabytes << 20, 'x'));
    writer.add_tensor("w", {4, 2}, 0, std::string(32, 'y'));
    const troupe::test::scratch_path path(".gguf");
    REQUIRE(writer.write(path.string()));
    const auto file = gguf_file::open(path.string());
    REQUIRE(file.ok());
    CHECK(file->string("long").value_or_throw().size() == megabytes << 20);
    std::string bytes(32, ' ');
    REQUIRE(file->read(*file->find_tensor("w"), std::as_writable_bytes(std::span(bytes))).ok());
    CHECK(bytes == std::string(32, 'y'));
  }
}
