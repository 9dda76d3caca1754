// The tiny model's weights and vocabulary. Knows the names that GGUF llama files use, nothing of how they are read.
#include "tests/support/tiny_model.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <filesystem>
#include <utility>

namespace troupe::test {
namespace {

using memory::dtype;

constexpr const char* chat_ml =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// SplitMix64 (Steele et al. 2014): the same on every machine, unlike the standard distributions.
class random_source {
public:
  explicit random_source(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  /// Uniform with mean 0 and deviation 1.
  float unit() { return (static_cast<float>(next() >> 40) / static_cast<float>(1 << 24) - 0.5f) * 3.4641016f; }

private:
  std::uint64_t state_;
};

/// Half precision of a normal value; subnormal results become zero, which test weights can spare.
std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto exponent = static_cast<std::int32_t>((bits >> 23) & 255) - 127 + 15;
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  if (exponent <= 0 || exponent >= 31) return sign;
  return static_cast<std::uint16_t>(sign | (exponent << 10) | ((bits >> 13) & 0x3ff));
}

template <class T>
void put(std::string& to, T value) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  to.append(bytes.data(), bytes.size());
}

void put_block(std::string& to, dtype type, float deviation, random_source& random) {
  // Nibbles are uniform with deviation 4.61, bytes with 73.9; scales vary by block so that mixing them up shows.
  const float spread = 0.75f + 0.5f * static_cast<float>(random.next() % 1024) / 1024.0f;
  const bool bytes = type == dtype::q8_0;
  const float scale = spread * deviation / (bytes ? 73.9f : 4.61f);
  put(to, to_half(scale));
  if (type == dtype::q4_1) put(to, to_half(-7.5f * scale));
  for (int i = 0; i < (bytes ? 32 : 16); ++i) put(to, static_cast<std::uint8_t>(random.next() >> 56));
}

/// The letters of GPT-2's byte alphabet, by byte, in UTF-8.
std::vector<std::string> byte_letters() {
  std::vector<std::string> letters;
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const unsigned code = printable ? byte : next++;
    if (code < 128) letters.emplace_back(1, static_cast<char>(code));
    else letters.push_back({static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))});
  }
  return letters;
}

const std::vector<std::pair<std::string, std::string>>& merge_pairs() {
  static const std::vector<std::pair<std::string, std::string>> pairs = {
      {"Ġ", "t"},  {"Ġ", "a"},  {"h", "e"},   {"i", "n"},   {"r", "e"},  {"o", "n"},  {"Ġt", "he"}, {"e", "r"},
      {"Ġ", "s"},  {"a", "t"},  {"Ġ", "w"},   {"e", "n"},   {"Ġ", "o"},  {"o", "r"},  {"Ġ", "c"},   {"i", "t"},
      {"i", "s"},  {"e", "s"},  {"Ġ", "b"},   {"Ġ", "p"},   {"Ġ", "f"},  {"in", "g"}, {"o", "u"},   {"Ġa", "n"},
      {"Ġ", "m"},  {"l", "l"},  {"Ġo", "f"},  {"Ġan", "d"}, {"a", "r"},  {"e", "d"},  {"a", "l"},   {"Ġ", "h"},
      {"Ġ", "in"}, {"Ġt", "o"}, {"i", "on"},  {"Ġw", "or"}, {"Ġh", "e"}, {"ll", "o"}, {"Ġ", "d"},   {"s", "t"},
      {"Ċ", "Ċ"}};
  return pairs;
}

void add_vocabulary(gguf_writer& file) {
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (std::string& letter : byte_letters()) tokens.push_back(std::move(letter));
  std::vector<std::string> merges;
  for (const auto& [left, right] : merge_pairs()) {
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
  }
  std::vector<std::int32_t> kinds(tokens.size(), 1);
  for (int i = 0; i < 3; ++i) kinds[static_cast<std::size_t>(i)] = 3;
  file.add<std::string>("tokenizer.ggml.model", "gpt2");
  file.add<std::string>("tokenizer.ggml.pre", "smollm");
  file.add_array("tokenizer.ggml.tokens", tokens);
  file.add_array("tokenizer.ggml.token_type", kinds);
  file.add_array("tokenizer.ggml.merges", merges);
  file.add<std::uint32_t>("tokenizer.ggml.bos_token_id", 1);
  file.add<std::uint32_t>("tokenizer.ggml.eos_token_id", 2);
  file.add<std::uint32_t>("tokenizer.ggml.unknown_token_id", 0);
  file.add("tokenizer.ggml.add_bos_token", false);
  file.add<std::string>("tokenizer.chat_template", chat_ml);
}

void add_shape(gguf_writer& file, const tiny_model_options& o) {
  const auto add = [&file](const char* key, std::int32_t value) { file.add(key, static_cast<std::uint32_t>(value)); };
  file.add<std::string>("general.architecture", "llama");
  file.add<std::string>("general.name", "Tiny");
  add("llama.block_count", o.layers);
  add("llama.context_length", o.context);
  add("llama.embedding_length", o.width);
  add("llama.feed_forward_length", o.feed_forward);
  add("llama.attention.head_count", o.heads);
  add("llama.attention.head_count_kv", o.kv_heads);
  add("llama.attention.key_length", o.head_dim);
  add("llama.attention.value_length", o.head_dim);
  add("llama.rope.dimension_count", o.head_dim);
  add("llama.vocab_size", tiny_vocabulary_size);
  file.add("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.add("llama.rope.freq_base", 10000.0f);
}

std::uint32_t number_of(dtype type) {
  for (std::uint32_t number = 0; number < 64; ++number) {
    const auto* known = models::find_ggml_type(number);
    if (known != nullptr && known->readable == type) return number;
  }
  return ~0u;
}

/// Adds tensors with a seed of their own each.
class tensor_adder {
public:
  tensor_adder(gguf_writer& file, std::uint64_t seed) : file_(file), seeds_(seed) {}

  void matrix(const std::string& name, dtype type, std::int64_t rows, std::int64_t cols, std::int64_t zero_rows = 0) {
    const float deviation = 1.0f / std::sqrt(static_cast<float>(cols));
    std::string bytes = random_rows(type, rows, cols, deviation, seeds_.next());
    bytes.replace(0, static_cast<std::size_t>(zero_rows * memory::row_size(type, cols)),
                  static_cast<std::size_t>(zero_rows * memory::row_size(type, cols)), '\0');
    file_.add_tensor(name, {static_cast<std::uint64_t>(cols), static_cast<std::uint64_t>(rows)}, number_of(type), bytes);
  }
  /// A vector around `middle`.
  void vector(const std::string& name, std::int64_t size, float middle) {
    std::string bytes;
    random_source random(seeds_.next());
    for (std::int64_t i = 0; i < size; ++i) put(bytes, middle + 0.1f * random.unit());
    file_.add_tensor(name, {static_cast<std::uint64_t>(size)}, number_of(dtype::f32), bytes);
  }

private:
  gguf_writer& file_;
  random_source seeds_;
};

}  // namespace

std::string random_rows(dtype type, std::int64_t rows, std::int64_t cols, float deviation, std::uint64_t seed) {
  std::string bytes;
  random_source random(seed);
  const auto layout = memory::info(type);
  for (std::int64_t i = 0; i < rows * cols / layout.block; ++i) {
    if (layout.block > 1) {
      put_block(bytes, type, deviation, random);
      continue;
    }
    const float value = deviation * random.unit();
    if (type == dtype::f16) put(bytes, to_half(value));
    else if (type == dtype::bf16) put(bytes, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
    else put(bytes, value);
  }
  return bytes;
}

gguf_writer make_tiny_model(const tiny_model_options& o) {
  gguf_writer file;
  add_shape(file, o);
  if (o.vocabulary) add_vocabulary(file);
  else file.add<std::string>("tokenizer.ggml.model", "none");
  tensor_adder add(file, o.seed);
  const std::int64_t never_wins = o.may_end ? 0 : 3;
  add.matrix("token_embd.weight", o.embedding, o.embedding_rows, o.width, o.tied ? never_wins : 0);
  if (!o.tied) add.matrix("output.weight", o.embedding, o.embedding_rows, o.width, never_wins);
  add.vector("output_norm.weight", o.width, 1.0f);
  if (o.rope_factors) add.vector("rope_freqs.weight", o.head_dim / 2, 2.0f);
  for (std::int32_t layer = 0; layer < o.layers; ++layer) {
    const std::string p = "blk." + std::to_string(layer) + ".";
    add.vector(p + "attn_norm.weight", o.width, 1.0f);
    add.matrix(p + "attn_q.weight", o.weights, o.heads * o.head_dim, o.width);
    add.matrix(p + "attn_k.weight", o.weights, o.kv_heads * o.head_dim, o.width);
    add.matrix(p + "attn_v.weight", o.weights, o.kv_heads * o.head_dim, o.width);
    add.matrix(p + "attn_output.weight", o.weights, o.width, o.heads * o.head_dim);
    add.vector(p + "ffn_norm.weight", o.width, 1.0f);
    add.matrix(p + "ffn_gate.weight", o.weights, o.feed_forward, o.width);
    add.matrix(p + "ffn_up.weight", o.weights, o.feed_forward, o.width);
    add.matrix(p + "ffn_down.weight", o.weights, o.width, o.feed_forward);
  }
  return file;
}

bool write_tiny_model(const std::string& path, const tiny_model_options& options) {
  return make_tiny_model(options).write(path);
}

scratch_path::scratch_path(const std::string& ending) {
  static std::atomic<int> next{0};
  const std::string name = "troupe-test-" + std::to_string(::getpid()) + "-" + std::to_string(next++) + ending;
  path_ = (std::filesystem::temp_directory_path() / name).string();
}

scratch_path::~scratch_path() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace troupe::test
