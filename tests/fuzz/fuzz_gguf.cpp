// libFuzzer target: any bytes as a GGUF file. What parses must have its tensors inside and a vocabulary or an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "models/gguf/gguf_file.hpp"
#include "models/gguf/gguf_vocabulary.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = troupe::models::gguf_file::parse("fuzz", std::as_bytes(std::span(data, size)));
  if (!file) return 0;
  unsigned sum = 0;
  for (const auto& tensor : file->tensors()) {
    const auto view = file->view(tensor.name);
    if (!view || view->bytes() == 0) continue;
    sum += static_cast<unsigned>(view->row_bytes(0)[0]);
    sum += static_cast<unsigned>(view->row_bytes(view->rows - 1)[troupe::memory::row_size(view->type, view->cols) - 1]);
  }
  if (const auto vocabulary = troupe::models::read_vocabulary(*file); vocabulary && vocabulary->tokens.size() > size)
    std::abort();
  if (const auto text = troupe::models::read_chat_template(*file); text) sum += static_cast<unsigned>(text->size());
  // Used, so that the reads above are not optimised away.
  return sum == 0xffffffffu ? -1 : 0;
}
