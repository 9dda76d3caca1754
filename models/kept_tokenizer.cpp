// Finds, reads and keeps the tables.
#include "models/kept_tokenizer.hpp"

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/log.hpp"
#include "memory/buffer.hpp"
#include "memory/kept_copy.hpp"
#include "models/gguf/gguf_vocabulary.hpp"

namespace troupe::models {
namespace {

/// Raised whenever read_vocabulary() or tokenizer::create() comes to read the same file in another way.
constexpr std::uint64_t reading = 1;
/// A byte of these takes as long to make as so many of packed weights, which copy_folder::least_bytes speaks of.
constexpr std::int64_t dearer = 16;

/// What a fixed vocabulary becomes: no copy survives a change of the tables, whoever makes it.
std::uint64_t layout_number() {
  vocabulary_data v;
  v.tokens = {"a", "b", "c", "ab", "abc", "Ġa", "<|end|>", "<think>"};
  v.kinds.assign(v.tokens.size(), token_kind::normal);
  v.kinds.back() = token_kind::user_defined;
  v.merges = {"a b", "ab c"};
  v.pre_tokenizer = "llama-bpe";
  v.eos = 6;
  auto made = tokenizer::create(std::move(v));
  return made ? reading * 0x9E3779B97F4A7C15u + memory::checksum_of(made->tables()) : 0;
}

std::optional<tokenizer> find(const std::string& path, const memory::copy_key& key) {
  const auto copy = memory::kept_copy::open(path, key);
  if (!copy) return std::nullopt;
  for (std::int64_t piece = 0; piece < copy->pieces(); ++piece)
    if (!copy->verify(piece)) return std::nullopt;
  const auto content = copy->content();
  auto room = memory::allocate_host(static_cast<std::int64_t>(content.size()));
  if (!room) return std::nullopt;
  std::memcpy(room->data(), content.data(), content.size());
  if (copy->lost()) return std::nullopt;
  const std::span<const std::byte> tables(static_cast<const std::byte*>(room->data()), content.size());
  auto made = tokenizer::of_tables(tables, std::make_shared<const memory::buffer>(*std::move(room)));
  if (!made) return std::nullopt;
  memory::copy_folder::mark_used(path);
  base::log(base::log_level::debug, "model", "the tokenizer's tables are read from " + path);
  return *std::move(made);
}

void keep(const tokenizer& made, const memory::copy_folder& copies, const std::string& path,
          const memory::copy_key& key) {
  const auto tables = made.tables();
  const auto bytes = static_cast<std::int64_t>(tables.size());
  if (bytes < copies.least_bytes / dearer) return;
  const std::atomic<bool> stop{false};
  auto done = copies.make_room(bytes, path);
  if (done) done = memory::keep_copy(path, key, tables, stop);
  base::log(
      base::log_level::debug, "model",
      done ? "the tokenizer's tables are kept in " + path : "the tokenizer's tables are not kept: " + done.why().text);
}

result<tokenizer> make(const gguf_file& file) {
  auto vocabulary = read_vocabulary(file);
  if (!vocabulary) return std::move(vocabulary).why();
  auto made = tokenizer::create(*std::move(vocabulary));
  if (!made) return error{made.why().code, file.name() + ": " + made.why().text, {}};
  return made;
}

}  // namespace

result<tokenizer> kept_tokenizer(const gguf_file& file, const memory::copy_folder& copies) {
  if (!copies.wanted() || file.mapped() == nullptr) return make(file);
  static const std::uint64_t layout = layout_number();
  const auto key = memory::key_of(*file.mapped(), layout);
  if (!key) return make(file);
  const std::string path = copies.path_of(file.name(), "tokens");
  if (auto found = find(path, *key)) return *std::move(found);
  auto made = make(file);
  if (made) keep(*made, copies, path, *key);
  return made;
}

}  // namespace troupe::models
