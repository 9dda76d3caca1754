// Checks a vocabulary, which is data from anyone's file, and builds the tables from it.
#include "models/tokenizer/tokenizer_parts.hpp"

#include <algorithm>
#include <array>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/tokenizer/byte_letters.hpp"

namespace troupe::models {
namespace {

constexpr size_t most_tokens = size_t{1} << 21;  // eight times the largest vocabulary known
constexpr size_t most_merges = size_t{1} << 22;
constexpr size_t longest_text = size_t{1} << 14;
constexpr size_t most_chars = size_t{1} << 30;
constexpr size_t at_once = 16;  // look-ups whose memory is asked for together: their waiting is most of the time

constexpr std::string_view end_names[] = {
    "<|im_end|>",      "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",
    "<|end_of_turn|>", "<end_of_turn>", "<|EOT|>",    "<EOT>",      "<｜end▁of▁sentence｜>",
};

error corrupt(std::string text) { return {errc::corrupt_file, "vocabulary: " + std::move(text), {}}; }

std::string quoted(std::string_view text) {
  constexpr size_t shown = 60;
  return '"' + std::string(text.substr(0, shown)) + (text.size() > shown ? "...\"" : "\"");
}

bool is_end_name(std::string_view text) {
  if (text.empty() || text.front() != '<') return false;
  return std::find(std::begin(end_names), std::end(end_names), text) != std::end(end_names);
}

// Files are known to mark such tokens as ordinary text; a user could then write them.
bool looks_like_control(std::string_view text) {
  return is_end_name(text) || (text.size() > 4 && text.starts_with("<|") && text.ends_with("|>"));
}

result<void> check_sizes(const vocabulary_data& v) {
  if (v.tokens.empty()) return corrupt("there are no tokens");
  if (v.tokens.size() > most_tokens)
    return corrupt(std::to_string(v.tokens.size()) + " tokens, more than " + std::to_string(most_tokens));
  if (!v.kinds.empty() && v.kinds.size() != v.tokens.size())
    return corrupt(std::to_string(v.tokens.size()) + " tokens but " + std::to_string(v.kinds.size()) + " token kinds");
  if (v.merges.empty()) return corrupt("there are no merges");
  if (v.merges.size() > most_merges)
    return corrupt(std::to_string(v.merges.size()) + " merges, more than " + std::to_string(most_merges));
  return {};
}

result<void> check_special_ids(const vocabulary_data& v) {
  const auto bad = [&](std::optional<int32_t> id) {
    return id && (*id < 0 || static_cast<size_t>(*id) >= v.tokens.size());
  };
  const auto complain = [&](const char* name, int32_t id) {
    return corrupt(std::string("the ") + name + " id " + std::to_string(id) + " is not among the " +
                   std::to_string(v.tokens.size()) + " tokens");
  };
  if (bad(v.bos)) return complain("bos", *v.bos);
  if (bad(v.eos)) return complain("eos", *v.eos);
  if (bad(v.eot)) return complain("eot", *v.eot);
  if (bad(v.unk)) return complain("unknown-token", *v.unk);
  for (const int32_t id : v.more_eog)
    if (bad(id)) return complain("end-of-generation", id);
  return {};
}

error crowded(size_t token) {
  return corrupt("too many tokens collide in the look-up table, token " + std::to_string(token) + " among them");
}

result<void> take_texts(tokenizer_parts& parts, const std::vector<std::string>& tokens) {
  std::vector<char> chars;
  std::vector<uint32_t> starts;
  starts.reserve(tokens.size() + 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) return corrupt("token " + std::to_string(i) + " is empty");
    if (tokens[i].size() > longest_text)
      return corrupt("token " + std::to_string(i) + " has " + std::to_string(tokens[i].size()) + " bytes");
    starts.push_back(static_cast<uint32_t>(chars.size()));
    chars.insert(chars.end(), tokens[i].begin(), tokens[i].end());
    if (chars.size() > most_chars)
      return corrupt("the tokens are longer than " + std::to_string(most_chars) + " bytes together");
  }
  starts.push_back(static_cast<uint32_t>(chars.size()));
  parts.texts = {flat_table(std::move(chars)), flat_table(std::move(starts))};
  return {};
}

result<void> index_texts(tokenizer_parts& parts) {
  const flat_texts& tokens = parts.texts;
  parts.by_text = text_index(tokens.size());
  const auto text_of = [&](int32_t id) { return parts.text_of(id); };
  std::array<uint64_t, at_once> hashes;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i % at_once == 0)
      for (size_t j = i; j < std::min(i + at_once, tokens.size()); ++j)
        parts.by_text.prefetch(hashes[j - i] = text_index::hash_of(tokens[j]));
    const int32_t earlier = parts.by_text.insert(tokens[i], hashes[i % at_once], static_cast<int32_t>(i), text_of);
    if (earlier == text_index::crowded) return crowded(i);
    if (earlier != text_index::none)
      return corrupt("tokens " + std::to_string(earlier) + " and " + std::to_string(i) + " are both " +
                     quoted(tokens[i]));
  }
  return {};
}

void settle_kinds(tokenizer_parts& parts, std::vector<token_kind> kinds) {
  kinds.resize(parts.texts.size(), token_kind::normal);
  for (size_t i = 0; i < kinds.size(); ++i)
    if (kinds[i] != token_kind::unknown && looks_like_control(parts.texts[i])) kinds[i] = token_kind::control;
  parts.kinds = flat_table(std::move(kinds));
}

// "<0xAB>"
std::optional<char> byte_named(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  if (digit(text[3]) < 0 || digit(text[4]) < 0) return std::nullopt;
  return static_cast<char>(digit(text[3]) * 16 + digit(text[4]));
}

result<void> decode_tokens(tokenizer_parts& parts) {
  const flat_texts& tokens = parts.texts;
  std::string all;
  std::vector<uint32_t> starts;
  starts.reserve(tokens.size() + 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    starts.push_back(static_cast<uint32_t>(all.size()));
    const token_kind kind = parts.kind_of(static_cast<int32_t>(i));
    if (kind == token_kind::normal) {
      if (!append_bytes_of_letters(tokens[i], all)) all += tokens[i];
    } else if (kind == token_kind::byte) {
      const auto byte = byte_named(tokens[i]);
      if (!byte) return corrupt("byte token " + std::to_string(i) + " is " + quoted(tokens[i]) + ", not <0x..>");
      all += *byte;
    } else {
      all += tokens[i];
    }
    parts.longest_token = std::max<size_t>(parts.longest_token, all.size() - starts.back());
  }
  starts.push_back(static_cast<uint32_t>(all.size()));
  parts.bytes = {flat_table(std::vector<char>(all.begin(), all.end())), flat_table(std::move(starts))};
  return {};
}

result<void> index_bytes(tokenizer_parts& parts) {
  parts.id_of_byte.fill(-1);
  if (parts.rules.whole_words) parts.by_bytes = text_index(parts.texts.size());
  for (int32_t id = 0; id < static_cast<int32_t>(parts.texts.size()); ++id) {
    const token_kind kind = parts.kind_of(id);
    if (kind != token_kind::normal && kind != token_kind::byte) continue;
    const std::string_view bytes = parts.bytes_of(id);
    if (parts.rules.whole_words && kind == token_kind::normal &&
        parts.by_bytes.insert(bytes, id, [&](int32_t other) { return parts.bytes_of(other); }) == text_index::crowded)
      return crowded(static_cast<size_t>(id));
    if (bytes.size() != 1) continue;
    int32_t& of_byte = parts.id_of_byte[static_cast<uint8_t>(bytes[0])];
    if (of_byte < 0 || kind == token_kind::normal) of_byte = id;
  }
  return {};
}

/// One line of the list of merges.
struct merge_line {
  std::string_view left, right;
  uint64_t left_hash = 0, right_hash = 0;
  int32_t left_id = text_index::none, right_id = text_index::none;
};

error bad_merge(std::string_view line, size_t rank, const char* why) {
  return corrupt("merge " + std::to_string(rank) + " (" + quoted(line) + ")" + why);
}

/// The token that is the two texts together. In most vocabularies it is the one behind that of the merge before.
int32_t id_of_both(const tokenizer_parts& parts, const merge_line& line, int32_t guess, std::string& joined) {
  if (static_cast<size_t>(guess) < parts.texts.size()) {
    const std::string_view text = parts.text_of(guess);
    if (text.size() == line.left.size() + line.right.size() && text.starts_with(line.left) &&
        text.ends_with(line.right))
      return guess;
  }
  joined.assign(line.left);
  joined += line.right;
  return parts.id_of_text(joined);
}

/// Lines [first, first + lines.size()) of the list, up to the ids of their two texts.
result<void> look_up(tokenizer_parts& parts, const std::vector<std::string>& merges, size_t first,
                     std::span<merge_line> lines) {
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string_view text = merges[first + i];
    const size_t gap = text.find(' ');
    if (gap == std::string_view::npos || gap == 0 || gap + 1 == text.size())
      return bad_merge(text, first + i, " is not two tokens with a space between");
    merge_line& line = lines[i] = {text.substr(0, gap), text.substr(gap + 1)};
    parts.by_text.prefetch(line.left_hash = text_index::hash_of(line.left));
    parts.by_text.prefetch(line.right_hash = text_index::hash_of(line.right));
  }
  const auto text_of = [&parts](int32_t id) { return parts.text_of(id); };
  for (merge_line& line : lines) {
    line.left_id = parts.by_text.find(line.left, line.left_hash, text_of);
    line.right_id = parts.by_text.find(line.right, line.right_hash, text_of);
    parts.merges.prefetch(line.left_id, line.right_id);
  }
  return {};
}

result<void> build_merges(tokenizer_parts& parts, const std::vector<std::string>& merges) {
  parts.merges = merge_table(merges.size());
  std::string joined;
  std::array<merge_line, at_once> room;
  int32_t merged = -1;
  for (size_t first = 0; first < merges.size(); first += at_once) {
    const auto lines = std::span(room).first(std::min(at_once, merges.size() - first));
    if (auto found = look_up(parts, merges, first, lines); !found) return found;
    for (size_t i = 0; i < lines.size(); ++i) {
      const merge_line& line = lines[i];
      const size_t rank = first + i;
      merged = id_of_both(parts, line, merged + 1, joined);
      if (line.left_id == text_index::none || line.right_id == text_index::none || merged == text_index::none)
        return bad_merge(merges[rank], rank, ": one of its parts or their sum is not a token");
      if (parts.is_control(merged)) continue;  // what merging makes, any user's text can make
      switch (parts.merges.insert(line.left_id, line.right_id, {static_cast<uint32_t>(rank), merged})) {
        case merge_table::insertion::done: break;
        case merge_table::insertion::duplicate: return bad_merge(merges[rank], rank, " occurs twice");
        case merge_table::insertion::too_crowded:
          return bad_merge(merges[rank], rank, ": too many merges collide in the look-up table");
      }
    }
  }
  return {};
}

void mark_ends(tokenizer_parts& parts, const vocabulary_data& v) {
  std::vector<uint8_t> ends(parts.texts.size());
  for (size_t i = 0; i < ends.size(); ++i) ends[i] = is_end_name(parts.texts[i]) ? 1 : 0;
  if (v.eos) ends[static_cast<size_t>(*v.eos)] = 1;
  if (v.eot) ends[static_cast<size_t>(*v.eot)] = 1;
  for (const int32_t id : v.more_eog) ends[static_cast<size_t>(id)] = 1;
  parts.ends = flat_table(std::move(ends));
}

}  // namespace

result<void> collect_literals(tokenizer_parts& parts) {
  std::vector<literal_tokens::entry> entries;
  for (int32_t id = 0; id < static_cast<int32_t>(parts.texts.size()); ++id) {
    const bool control = parts.is_control(id);
    if (!control && parts.kind_of(id) != token_kind::user_defined) continue;
    const std::string_view text = parts.text_of(id);
    if (text.size() > literal_tokens::longest_allowed)
      return corrupt("special token " + std::to_string(id) + " has " + std::to_string(text.size()) + " bytes");
    entries.push_back({std::string(text), id, control});
  }
  parts.literals = literal_tokens(std::move(entries));
  return {};
}

result<std::shared_ptr<const tokenizer_parts>> build_tokenizer_parts(vocabulary_data vocabulary) {
  const auto rules = find_split_rules(vocabulary.pre_tokenizer);
  if (!rules)
    return error{errc::unsupported,
                 "the pre-tokenizer " + quoted(vocabulary.pre_tokenizer) + " is not supported; known are " +
                     std::string(known_pre_tokenizers()),
                 {}};
  if (auto ok = check_sizes(vocabulary); !ok) return std::move(ok).why();
  if (auto ok = check_special_ids(vocabulary); !ok) return std::move(ok).why();

  // In its final place from the start: it is large.
  auto parts = std::make_shared<tokenizer_parts>();
  parts->rules = *rules;
  parts->bos = vocabulary.bos;
  parts->eos = vocabulary.eos;
  parts->add_bos = vocabulary.add_bos;
  if (auto ok = take_texts(*parts, vocabulary.tokens); !ok) return std::move(ok).why();
  if (auto ok = index_texts(*parts); !ok) return std::move(ok).why();
  settle_kinds(*parts, std::move(vocabulary.kinds));
  // Merges need the texts' ids, bytes only the texts: they fill different tables side by side.
  auto merging =
      std::async(std::launch::async, [&parts, &vocabulary] { return build_merges(*parts, vocabulary.merges); });
  auto decoded = decode_tokens(*parts);
  if (decoded) decoded = index_bytes(*parts);
  auto merged = merging.get();
  if (!decoded) return std::move(decoded).why();
  if (!merged) return std::move(merged).why();
  if (auto ok = collect_literals(*parts); !ok) return std::move(ok).why();
  mark_ends(*parts, vocabulary);
  return std::shared_ptr<const tokenizer_parts>(std::move(parts));
}

}  // namespace troupe::models
