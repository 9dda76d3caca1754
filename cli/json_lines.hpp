// Lines of JSON in and out for the commands that talk to scripts. The parser itself is compiled in json_lines.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <troupe/result.hpp>

namespace troupe::cli {

/// The string at `key` of the object that `line` is.
result<std::string> read_text(std::string_view line, std::string_view key);
/// The array of token ids at "ids".
result<std::vector<std::int32_t>> read_ids(std::string_view line);
/// An array of {"role", "content"} objects, or an object with such an array at "messages".
result<std::vector<std::pair<std::string, std::string>>> read_messages(std::string_view text);

/// The numbers of an object by name: one of a number, all of an array of numbers. Other members are left out.
using named_numbers = std::map<std::string, std::vector<double>, std::less<>>;
/// Of each object in an array of objects.
result<std::vector<named_numbers>> read_numbers(std::string_view text);

/// All of standard input.
std::string read_standard_input();

}  // namespace troupe::cli
