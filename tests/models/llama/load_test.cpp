// Loading of models: what a good file gives, and that bad ones are refused with words that help (rows 74, 77, 78).
#include <functional>
#include <limits>

#include "kernels/cpu/cpu_lane.hpp"
#include "models/chat_template/chat_template.hpp"
#include "models/llama/llama_load.hpp"
#include "models/model.hpp"
#include "models/tokenizer/tokenizer.hpp"
#include "support/catch.hpp"
#include "tests/support/tiny_model.hpp"

using namespace troupe;
using test::gguf_writer;

namespace {

class loading {
public:
  loading() : path_(".gguf"), lane_(std::move(kernels::make_cpu_lane({})).value_or_throw()) {}

  result<std::shared_ptr<const models::loaded_model>> load(const gguf_writer& file,
                                                           const models::load_progress& progress = {}) {
    REQUIRE(file.write(path_.string()));
    return models::load_model(path_.string(), *lane_, progress);
  }
  void check_refused(const gguf_writer& file, errc code, const std::vector<std::string>& words) {
    const auto model = load(file);
    REQUIRE_FALSE(model.ok());
    INFO(model.why().text);
    CHECK(model.why().code == code);
    CHECK(model.why().text.find(path_.string()) != std::string::npos);
    for (const std::string& word : words) {
      INFO(word);
      CHECK(model.why().text.find(word) != std::string::npos);
    }
  }

private:
  test::scratch_path path_;
  std::unique_ptr<kernels::cpu_lane> lane_;
};

/// The tiny model's shape keys, one of them left out for the test to write.
gguf_writer shape_without(const std::string& left_out) {
  gguf_writer file;
  const std::vector<std::pair<std::string, std::uint32_t>> sizes = {{"llama.block_count", 2},
                                                                    {"llama.context_length", 512},
                                                                    {"llama.embedding_length", 64},
                                                                    {"llama.feed_forward_length", 96},
                                                                    {"llama.attention.head_count", 2}};
  file.add<std::string>("general.architecture", "llama");
  for (const auto& [key, value] : sizes) {
    if (key != left_out) file.add(key, value);
  }
  if (left_out != "llama.attention.layer_norm_rms_epsilon") file.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.add_tensor("token_embd.weight", {64, 4}, 0, std::string(1024, '\0'));
  return file;
}

}  // namespace

TEST_CASE("a model loads with its shape, tokenizer, template and progress") {
  loading room;
  std::int64_t last = 0;
  std::int64_t total = 0;
  int calls = 0;
  const auto loaded = room.load(test::make_tiny_model(), [&](std::int64_t done, std::int64_t all) {
    CHECK(done > last);
    last = done;
    total = all;
    ++calls;
  });
  REQUIRE(loaded.ok());
  const models::loaded_model& model = **loaded;
  CHECK(model.architecture == "llama");
  CHECK(model.name == "Tiny");
  CHECK(model.shape().layers == 2);
  CHECK(model.shape().vocabulary == test::tiny_vocabulary_size);
  CHECK(model.shape().context == 512);
  REQUIRE(model.tokenizer);
  CHECK(model.tokenizer->size() == test::tiny_vocabulary_size);
  CHECK(model.chat_template);
  CHECK(model.bos_text == "<|im_start|>");
  CHECK(model.eos_text == "<|im_end|>");
  CHECK(model.network->bytes_per_step() > 10'000);
  CHECK(last == total);
  CHECK(calls == 20);
}

TEST_CASE("a file without a vocabulary loads without a tokenizer") {
  loading room;
  test::tiny_model_options bare;
  bare.vocabulary = false;
  const auto model = room.load(test::make_tiny_model(bare));
  REQUIRE(model.ok());
  CHECK_FALSE((*model)->tokenizer);
  CHECK_FALSE((*model)->chat_template);
}

TEST_CASE("an unknown architecture is refused and the known ones are listed") {
  gguf_writer file;
  file.add<std::string>("general.architecture", "mamba");
  loading().check_refused(file, errc::unsupported, {"mamba", "llama"});
  loading().check_refused(gguf_writer(), errc::corrupt_file, {"general.architecture"});
}

TEST_CASE("missing, zero, negative and mistyped shape keys are refused by name (row 77)") {
  loading room;
  for (const std::string key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                                "llama.feed_forward_length", "llama.attention.head_count"}) {
    room.check_refused(shape_without(key), errc::corrupt_file, {key});
    const std::vector<std::function<void(gguf_writer&)>> lies = {
        [&](auto& f) { f.add(key, 0u); },
        [&](auto& f) { f.template add<std::int32_t>(key, -1); },
        [&](auto& f) { f.add(key, 0xffffffffu); },
        [&](auto& f) { f.template add<std::uint64_t>(key, ~0ull); },
        [&](auto& f) { f.template add<std::string>(key, "2"); },
        [&](auto& f) { f.add(key, 2.0f); }};
    for (const auto& lie : lies) {
      gguf_writer file = shape_without(key);
      lie(file);
      room.check_refused(file, errc::corrupt_file, {key});
    }
  }
  const std::string eps = "llama.attention.layer_norm_rms_epsilon";
  for (const float value :
       {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    gguf_writer file = shape_without(eps);
    file.add(eps, value);
    room.check_refused(file, errc::corrupt_file, {eps});
  }
}

TEST_CASE("shapes that do not fit each other are refused by name") {
  loading room;
  const auto refused = [&](errc code, const std::string& key, auto value) {
    gguf_writer file = shape_without("");
    file.add(key, value);
    room.check_refused(file, code, {key});
  };
  refused(errc::corrupt_file, "llama.attention.head_count_kv", 0u);
  refused(errc::corrupt_file, "llama.attention.head_count_kv", 3u);
  refused(errc::corrupt_file, "llama.attention.key_length", 1u << 24);
  refused(errc::unsupported, "llama.attention.value_length", 16u);
  refused(errc::corrupt_file, "llama.rope.dimension_count", 31u);
  refused(errc::corrupt_file, "llama.rope.dimension_count", 64u);
  refused(errc::corrupt_file, "llama.rope.freq_base", -1.0f);
  refused(errc::unsupported, "llama.rope.scaling.type", std::string("yarn"));
  refused(errc::unsupported, "llama.expert_count", 8u);
}

TEST_CASE("weights that are missing, of another shape or left over are refused by name") {
  loading room;
  room.check_refused(shape_without(""), errc::corrupt_file, {"blk.0.attn_norm.weight", "missing"});
  gguf_writer more = test::make_tiny_model();
  more.add_tensor("blk.0.attn_q.bias", {64}, 0, std::string(256, '\0'));
  room.check_refused(more, errc::unsupported, {"blk.0.attn_q.bias"});
  gguf_writer wrong = shape_without("");
  wrong.add_tensor("blk.0.attn_norm.weight", {32}, 0, std::string(128, '\0'));
  room.check_refused(wrong, errc::corrupt_file, {"blk.0.attn_norm.weight", "32", "64"});
  gguf_writer nan = shape_without("");
  std::string values(256, '\0');
  values.replace(0, 4, "\xff\xff\xff\x7f");
  nan.add_tensor("blk.0.attn_norm.weight", {64}, 0, values);
  room.check_refused(nan, errc::corrupt_file, {"blk.0.attn_norm.weight", "not finite"});
  gguf_writer type = shape_without("");
  type.add_tensor("blk.0.attn_norm.weight", {64}, 0, std::string(256, '\0'));
  type.add_tensor("blk.0.attn_q.weight", {64, 64}, 9, std::string(64 * 72, '\0'));
  room.check_refused(type, errc::unsupported, {"blk.0.attn_q.weight", "Q8_1"});
  gguf_writer scale = shape_without("");
  scale.add_tensor("blk.0.attn_norm.weight", {64}, 0, std::string(256, '\0'));
  std::string weights = test::random_rows(memory::dtype::q5_1, 64, 64, 1.0f, 1);
  REQUIRE(test::spoil_scale(memory::dtype::q5_1, weights.data() + 50 * 24, 1, true));
  scale.add_tensor("blk.0.attn_q.weight", {64, 64}, 7, std::string(64 * 48, '\0'));
  scale.add_tensor("blk.0.attn_k.weight", {64, 64}, 7, weights);
  scale.add_tensor("blk.0.attn_v.weight", {64, 64}, 7, std::string(64 * 48, '\0'));
  const auto zeros = [&](const std::string& name, std::uint64_t cols, std::uint64_t rows) {
    scale.add_tensor(name, rows > 1 ? std::vector<std::uint64_t>{cols, rows} : std::vector<std::uint64_t>{cols}, 0,
                     std::string(cols * rows * 4, '\0'));
  };
  for (const std::string layer : {"blk.0.", "blk.1."}) {  // the rest: packing comes when all is there
    if (layer == "blk.1.") zeros(layer + "attn_norm.weight", 64, 1);
    for (const char* name : {"attn_q.weight", "attn_k.weight", "attn_v.weight"})
      if (layer == "blk.1.") zeros(layer + name, 64, 64);
    zeros(layer + "attn_output.weight", 64, 64);
    zeros(layer + "ffn_norm.weight", 64, 1);
    for (const char* name : {"ffn_gate.weight", "ffn_up.weight"}) zeros(layer + name, 64, 96);
    zeros(layer + "ffn_down.weight", 96, 64);
  }
  zeros("output_norm.weight", 64, 1);
  room.check_refused(scale, errc::corrupt_file, {"blk.0.attn_k.weight", "scale"});
}

TEST_CASE("a vocabulary larger than the embedding is refused (row 78)") {
  test::tiny_model_options options;
  options.embedding_rows = test::tiny_vocabulary_size - 1;
  loading().check_refused(test::make_tiny_model(options), errc::corrupt_file, {"300", "299"});
  options.embedding_rows = test::tiny_vocabulary_size + 20;  // padded tables are common
  CHECK(loading().load(test::make_tiny_model(options)).ok());
}

TEST_CASE("a path that is no model says so") {
  const auto lane = std::move(kernels::make_cpu_lane({})).value_or_throw();
  CHECK(models::load_model("/no/such/model.gguf", *lane).why().code == errc::not_found);
  CHECK(models::load_model("/", *lane).why().code == errc::invalid_argument);
}
