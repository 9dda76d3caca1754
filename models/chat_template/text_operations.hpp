// What string methods and text filters share; every operation keeps provenance.
#pragma once

#include <string_view>

#include "models/chat_template/code_points.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {

text stripped(const text& source, const value* chars, renderer& run, strip_side side = strip_side::both);
text in_case(renderer& run, const text& source, letter_case wanted);
/// First letter upper, the rest lower.
text capitalized(renderer& run, const text& source);
/// `starts_word(previous, current)` says where a capital goes; other letters become lower case.
text titled(renderer& run, const text& source, bool (*starts_word)(char32_t previous, char32_t current));
/// At most `limit` times, all when negative.
text replaced(renderer& run, const text& source, const text& from, const text& to, std::int64_t limit);
text joined(renderer& run, const text& separator, const std::vector<value>& parts);
std::vector<text> lines_of(const text& source, bool keep_ends);

}  // namespace troupe::models::jinja
