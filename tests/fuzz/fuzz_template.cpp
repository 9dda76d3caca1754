// libFuzzer: any bytes as a chat template, rendered with a small conversation under a small budget.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "models/chat_template/chat_template.hpp"

namespace {

using troupe::models::value;

value conversation() {
  const troupe::models::chat_message_view messages[] = {
      {"system", "Be brief."}, {"user", " <|im_start|>é\n"}, {"assistant", "a,b"}};
  return troupe::models::make_chat_context(messages, true, "<s>", "</s>");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const value context = conversation();
  troupe::models::template_budget budget;
  budget.steps = 20'000;
  budget.output_bytes = 1u << 16;
  budget.value_bytes = 1u << 16;
  const auto parsed = troupe::models::chat_template::parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!parsed) return 0;
  const auto spans = parsed->render(context, std::chrono::system_clock::time_point{}, budget);
  if (!spans) return 0;
  // The promise behind the spans: neighbours differ, none is empty, and the limit holds.
  std::size_t total = 0;
  for (std::size_t i = 0; i < spans->size(); ++i) {
    total += (*spans)[i].text.size();
    if ((*spans)[i].text.empty() || (i > 0 && (*spans)[i].trusted == (*spans)[i - 1].trusted)) std::abort();
  }
  if (total > budget.output_bytes) std::abort();
  return 0;
}
