// Byte-level BPE: text to token ids and ids to bytes, from a model's own vocabulary.
// Knows no file format, no chat template and no actor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "models/tokenizer/vocabulary.hpp"

namespace troupe::models {

struct tokenizer_parts;

/// A piece of prompt and whether its author may write control tokens: a template may, a user may not.
struct text_span {
  std::string_view text;
  bool trusted = false;
};

/// Immutable: any thread may use it at any time. A copy shares the tables. Every function of an id takes any integer;
/// ids outside the vocabulary have no bytes and are neither control nor end.
class tokenizer {
public:
  /// `corrupt_file`: no tokens or merges, or too many; an empty or repeated token or merge; a merge of or into unknown
  /// tokens; a special id outside the vocabulary. `unsupported`: a pre-tokenizer that is none of the known ones.
  /// Tokens shaped like <|this|> count as control tokens whatever their kind says.
  static result<tokenizer> create(vocabulary_data vocabulary);

  /// What create() made, as bytes (a multiple of 8) to keep for the next start; tens of times faster to take up again.
  std::vector<std::byte> tables() const;
  /// Of such bytes, aligned to 8, which `held` keeps and nobody changes. They are believed: whoever keeps them sees to
  /// it that they come back as they went. Errors: corrupt_file.
  static result<tokenizer> of_tables(std::span<const std::byte> tables, std::shared_ptr<const void> held);

  /// The ids of the spans put end to end; bos is not added. A control token is recognised only where all its
  /// characters are trusted, and never made by merging; user-defined tokens are recognised everywhere. All other text
  /// is split and merged as one string: a border between spans is no border between tokens. Bytes that are not UTF-8
  /// are encoded as they are; bytes that the vocabulary has no token for are left out, as its authors' tokenizer does.
  /// `context_length_exceeded`: more than `max_tokens`; the work stops there. O(n log n) in the longest word, O(n)
  /// in all else.
  result<std::vector<int32_t>> encode(std::span<const text_span> spans, size_t max_tokens = SIZE_MAX) const;
  result<std::vector<int32_t>> encode(std::string_view text, bool parse_special, size_t max_tokens = SIZE_MAX) const;

  /// What the token adds to the text: raw bytes, perhaps only a part of a code point. A control token's is its name.
  std::string_view token_bytes(int32_t id) const noexcept;

  bool is_control(int32_t id) const noexcept;

  /// Whether the token ends a generation: eos, eot and the file's other end ids, and the well-known end names.
  bool is_end(int32_t id) const noexcept;

  int32_t size() const noexcept;
  std::optional<int32_t> bos() const noexcept;
  std::optional<int32_t> eos() const noexcept;
  bool add_bos() const noexcept;

  /// The id of a token written as in the vocabulary ("<|im_end|>", "Ġthe").
  std::optional<int32_t> find(std::string_view token_text) const;

private:
  explicit tokenizer(std::shared_ptr<const tokenizer_parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const tokenizer_parts> parts_;
};

}  // namespace troupe::models
