// What is said about arguments that could not be understood: which, what may have been meant, where to look. Knows the
// parser, no command.
#pragma once

#include <string>

namespace CLI {
class App;
class Error;
}  // namespace CLI

namespace troupe::cli {

/// For CLI::App::failure_message().
std::string usage_error(const CLI::App* app, const CLI::Error& e);

}  // namespace troupe::cli
