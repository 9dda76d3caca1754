// A head, then each table on a border of 64 bytes, in the order in which each_table() names them.
#include "models/tokenizer/tokenizer_tables.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

namespace troupe::models {
namespace {

constexpr size_t tables = 9;
constexpr size_t border = 64;

struct tables_head {
  std::array<char, 32> rules{};  ///< the split rules' name, filled up with zeros
  std::array<int32_t, 256> id_of_byte{};
  int32_t bos = -1, eos = -1;  ///< -1: none
  uint32_t adds_bos = 0;
  uint32_t longest_token = 0;
  std::array<uint64_t, tables> counts{};  ///< of elements
};
static_assert(sizeof(tables_head) % 8 == 0 && std::has_unique_object_representations_v<tables_head>);

template <class Parts, class Visit>
void each_table(Parts& parts, const Visit& visit) {
  visit(parts.texts.chars);
  visit(parts.texts.starts);
  visit(parts.bytes.chars);
  visit(parts.bytes.starts);
  visit(parts.kinds);
  visit(parts.ends);
  visit(parts.by_text.slots());
  visit(parts.by_bytes.slots());
  visit(parts.merges.slots());
}

constexpr size_t rounded(size_t bytes) noexcept { return (bytes + border - 1) / border * border; }

/// What look-ups rely on, but for the elements themselves.
bool fit(const tokenizer_parts& parts) {
  const size_t tokens = parts.kinds.size();
  const auto holds = [tokens](const flat_texts& texts) {
    return texts.size() == tokens && texts.starts[0] == 0 && texts.starts[tokens] == texts.chars.size();
  };
  return tokens > 0 && holds(parts.texts) && holds(parts.bytes) && parts.ends.size() == tokens &&
         std::has_single_bit(parts.by_text.slots().size()) && std::has_single_bit(parts.by_bytes.slots().size()) &&
         std::has_single_bit(parts.merges.slots().size());
}

}  // namespace

std::vector<std::byte> tables_of(const tokenizer_parts& parts) {
  tables_head head;
  std::copy_n(parts.rules.name.begin(), std::min(parts.rules.name.size(), head.rules.size()), head.rules.begin());
  head.id_of_byte = parts.id_of_byte;
  head.bos = parts.bos.value_or(-1);
  head.eos = parts.eos.value_or(-1);
  head.adds_bos = parts.add_bos ? 1 : 0;
  head.longest_token = static_cast<uint32_t>(parts.longest_token);
  size_t count = 0, size = rounded(sizeof head);
  each_table(parts, [&](const auto& table) {
    head.counts[count++] = table.size();
    size += rounded(table.all().size_bytes());
  });
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), &head, sizeof head);
  size_t at = rounded(sizeof head);
  each_table(parts, [&](const auto& table) {
    if (table.size() > 0) std::memcpy(bytes.data() + at, table.data(), table.all().size_bytes());
    at += rounded(table.all().size_bytes());
  });
  return bytes;
}

result<std::shared_ptr<const tokenizer_parts>> parts_of(std::span<const std::byte> bytes,
                                                        std::shared_ptr<const void> held) {
  const error unfit{errc::corrupt_file, "the kept tables of the vocabulary do not fit each other", {}};
  tables_head head;
  if (bytes.size() < sizeof head) return unfit;
  std::memcpy(&head, bytes.data(), sizeof head);
  const auto end = std::find(head.rules.begin(), head.rules.end(), '\0');
  const std::string_view name(head.rules.data(), static_cast<size_t>(end - head.rules.begin()));
  const auto rules = find_split_rules(name);
  if (!rules) return unfit;
  auto parts = std::make_shared<tokenizer_parts>();
  parts->held = std::move(held);
  parts->rules = *rules;
  parts->id_of_byte = head.id_of_byte;
  if (head.bos >= 0) parts->bos = head.bos;
  if (head.eos >= 0) parts->eos = head.eos;
  parts->add_bos = head.adds_bos != 0;
  parts->longest_token = std::max<size_t>(1, head.longest_token);
  size_t count = 0, at = rounded(sizeof head);
  bool whole = true;
  each_table(*parts, [&]<class T>(flat_table<T>& table) {
    const uint64_t wanted = head.counts[count++];
    whole = whole && at <= bytes.size() && wanted <= (bytes.size() - at) / sizeof(T);
    if (!whole) return;
    const auto elements = static_cast<size_t>(wanted);
    table = flat_table<T>(std::span(reinterpret_cast<const T*>(bytes.data() + at), elements));
    at += rounded(elements * sizeof(T));
  });
  if (!whole || !fit(*parts)) return unfit;
  parts->by_text.settle();
  parts->by_bytes.settle();
  parts->merges.settle();
  if (auto ok = collect_literals(*parts); !ok) return std::move(ok).why();
  return std::shared_ptr<const tokenizer_parts>(std::move(parts));
}

}  // namespace troupe::models
