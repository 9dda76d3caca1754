// "..." % values and "...".format(values), provenance kept.
#pragma once

#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {

/// %s %r %d %i %f %x %% with flags, width and precision; `given` is a tuple, a dict for %(name)s, or one value.
text format_percent(renderer& run, const text& pattern, const value& given);
/// {} {0} {name} {{ }}; conversions and format specifications are refused.
text format_braces(renderer& run, const text& pattern, const arguments& given);

}  // namespace troupe::models::jinja
