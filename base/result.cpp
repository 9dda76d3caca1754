// The names of the error codes.
#include <troupe/result.hpp>

namespace troupe {

std::string_view to_string(errc code) noexcept {
  switch (code) {
    case errc::invalid_argument: return "invalid_argument";
    case errc::context_length_exceeded: return "context_length_exceeded";
    case errc::not_found: return "not_found";
    case errc::unsupported: return "unsupported";
    case errc::overloaded: return "overloaded";
    case errc::out_of_memory: return "out_of_memory";
    case errc::cancelled: return "cancelled";
    case errc::deadline_exceeded: return "deadline_exceeded";
    case errc::corrupt_file: return "corrupt_file";
    case errc::io: return "io";
    case errc::network: return "network";
    case errc::numeric: return "numeric";
    case errc::shutting_down: return "shutting_down";
    case errc::internal: return "internal";
  }
  return "internal";
}

}  // namespace troupe
