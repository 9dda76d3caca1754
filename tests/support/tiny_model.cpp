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
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

template <class T>
void put(std::string& to, T value) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  to.append(bytes.data(), bytes.size());
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
      {"Ġ", "t"},   {"Ġ", "a"},  {"h", "e"},  {"i", "n"}, {"r", "e"},  {"o", "n"},  {"Ġt", "he"},
      {"e", "r"},   {"Ġ", "s"},  {"a", "t"},  {"Ġ", "w"}, {"e", "n"},  {"Ġ", "o"},  {"o", "r"},
      {"Ġ", "c"},   {"i", "t"},  {"i", "s"},  {"e", "s"}, {"Ġ", "b"},  {"Ġ", "p"},  {"Ġ", "f"},
      {"in", "g"},  {"o", "u"},  {"Ġa", "n"}, {"Ġ", "m"}, {"l", "l"},  {"Ġo", "f"}, {"Ġan", "d"},
      {"a", "r"},   {"e", "d"},  {"a", "l"},  {"Ġ", "h"}, {"Ġ", "in"}, {"Ġt", "o"}, {"i", "on"},
      {"Ġw", "or"}, {"Ġh", "e"}, {"ll", "o"}, {"Ġ", "d"}, {"s", "t"},  {"Ċ", "Ċ"}};
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
  tensor_adder(gguf_writer& file, const tiny_model_options& options)
      : file_(file), seeds_(options.seed), mix_(options.mix) {}

  void matrix(const std::string& name, dtype type, std::int64_t rows, std::int64_t cols, std::int64_t zero_rows = 0) {
    if (!mix_.empty()) type = mix_[next_++ % mix_.size()];
    const float deviation = 1.0f / std::sqrt(static_cast<float>(cols));
    std::string bytes = random_rows(type, rows, cols, deviation, seeds_.next());
    bytes.replace(0, static_cast<std::size_t>(zero_rows * memory::row_size(type, cols)),
                  static_cast<std::size_t>(zero_rows * memory::row_size(type, cols)), '\0');
    file_.add_tensor(name, {static_cast<std::uint64_t>(cols), static_cast<std::uint64_t>(rows)}, number_of(type),
                     bytes);
  }
  /// A vector around `middle`.
  void vector(const std::string& name, std::int64_t size, float middle) {
    std::string bytes;
    random_numbers random(seeds_.next());
    for (std::int64_t i = 0; i < size; ++i) put(bytes, middle + 0.1f * random.unit());
    file_.add_tensor(name, {static_cast<std::uint64_t>(size)}, number_of(dtype::f32), bytes);
  }

private:
  gguf_writer& file_;
  random_numbers seeds_;
  const std::vector<dtype>& mix_;
  std::size_t next_ = 0;
};

}  // namespace

gguf_writer make_tiny_model(const tiny_model_options& o) {
  gguf_writer file;
  add_shape(file, o);
  if (o.vocabulary) add_vocabulary(file);
  else file.add<std::string>("tokenizer.ggml.model", "none");
  tensor_adder add(file, o);
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
