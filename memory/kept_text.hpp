// What was measured on a machine, kept as a small text for the next start. Knows neither what its lines mean nor where
// it lies.
//
//   troupe library choices 1        the heading: what it is, and the number of its form
//   NVIDIA H200; driver 13.0        the fingerprint of the machine
//   ...                             lines
//   sum 0123456789abcdef            of everything above
//
// What is cut short, altered, of another machine or another form is as good as not there.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <troupe/result.hpp>

#include "memory/copy_folder.hpp"
#include "memory/digest.hpp"

namespace troupe::memory {

/// `lines`: whole ones, each with its end. Neither heading nor fingerprint has one.
std::string kept_text(std::string_view heading, std::string_view fingerprint, std::string_view lines);
/// The lines, where all of `text` is as kept_text writes it.
std::optional<std::string> lines_of(std::string_view text, std::string_view heading, std::string_view fingerprint);

/// What the file has, 64 KiB at most; "" where there is none.
std::string read_kept(const std::string& path);
/// Whole or not at all. Errors: those of make_room; io.
result<void> keep_text(const std::string& text, const copy_folder& folder, const std::string& path);

}  // namespace troupe::memory
