// A shared library that is opened when it is first needed: what few commands use costs the others no time to start.
// Knows no library's functions.
#pragma once

#include <string>

#include <troupe/result.hpp>

namespace troupe::base {

/// Stays open until the process ends: what was found in it is good for ever.
class opened_library {
public:
  /// `name` as the linker would record it ("libz.so.1"). Errors: unsupported (it is not on this machine, and why).
  static result<opened_library> open(const char* name);

  /// Fills each of `functions` from the name beside it. Errors: unsupported (the library lacks it).
  template <class Function>
  result<void> find(const char* name, Function*& function) const {
    auto found = address(name);
    if (!found) return found.why();
    function = reinterpret_cast<Function*>(*found);
    return {};
  }
  template <class Function, class... Rest>
  result<void> find(const char* name, Function*& function, Rest&&... rest) const {
    if (auto found = find(name, function); !found) return found;
    return find(rest...);
  }

private:
  opened_library(const char* name, void* handle) : name_(name), handle_(handle) {}
  result<void*> address(const char* name) const;

  std::string name_;
  void* handle_;
};

}  // namespace troupe::base
