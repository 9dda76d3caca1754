// dlopen.
#include "base/opened_library.hpp"

#include <dlfcn.h>

namespace troupe::base {
namespace {

error unusable(const std::string& name) {
  const char* why = ::dlerror();
  return {errc::unsupported, name + " cannot be used: " + (why != nullptr ? why : "unknown reason"), {}};
}

}  // namespace

result<opened_library> opened_library::open(const char* name) {
  void* handle = ::dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return unusable(name);
  return opened_library(name, handle);
}

result<void*> opened_library::address(const char* name) const {
  void* found = ::dlsym(handle_, name);
  if (found == nullptr) return unusable(name_);
  return found;
}

}  // namespace troupe::base
