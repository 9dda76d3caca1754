// A library of the C runtime stands for all that are opened at need.
#include "base/opened_library.hpp"

#include "support/catch.hpp"

using namespace troupe;

TEST_CASE("a library is opened by its name and its functions work") {
  const auto library = base::opened_library::open("libc.so.6");
  REQUIRE(library.ok());
  long (*labs)(long) = nullptr;
  int (*toupper)(int) = nullptr;
  REQUIRE(library->find("labs", labs, "toupper", toupper).ok());
  CHECK(labs(-7) == 7);
  CHECK(toupper('a') == 'A');
}

TEST_CASE("a library that is not there, or lacks a function, is an error that names it") {
  const auto missing = base::opened_library::open("libtroupe-has-no-such.so.1");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.why().code == errc::unsupported);
  CHECK(missing.why().text.find("libtroupe-has-no-such.so.1") != std::string::npos);

  const auto library = base::opened_library::open("libc.so.6");
  REQUIRE(library.ok());
  void (*function)() = nullptr;
  const auto found = library->find("no_such_function_anywhere", function);
  REQUIRE_FALSE(found.ok());
  CHECK(found.why().text.find("no_such_function_anywhere") != std::string::npos);
  CHECK(function == nullptr);
}
