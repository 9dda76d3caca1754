// The names of the ways to end.
#include <troupe/event.hpp>

namespace troupe {

std::string_view to_string(finish_reason reason) noexcept {
  switch (reason) {
    case finish_reason::stop: return "stop";
    case finish_reason::length: return "length";
    case finish_reason::cancelled: return "cancelled";
  }
  return "stop";
}

}  // namespace troupe
