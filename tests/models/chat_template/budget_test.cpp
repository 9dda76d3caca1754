// Hostile templates end in an error that says the line, soon and without taking memory.
#include "support/catch.hpp"

#include "support.hpp"

using namespace chat_template_test;
using Catch::Matchers::Contains;

namespace {
std::string many(std::size_t count, const std::string& what) {
  std::string made;
  for (std::size_t i = 0; i < count; ++i) made += what;
  return made;
}
}  // namespace

TEST_CASE("nested loops end when the steps are spent") {
  const std::string source = "\n{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
  CHECK_THAT(rendered(source), Contains("line 2") && Contains("too many steps"));
}

TEST_CASE("a giant string is refused before it is made") {
  CHECK_THAT(rendered("{{ 'a' * 1000000000 }}"), Contains("line 1") && Contains("grows too long"));
  CHECK_THAT(rendered("{{ 'a' * 9223372036854775807 }}"), Contains("grows too long"));
  CHECK_THAT(rendered("{{ '%999999999d' % 1 }}"), Contains("grows too long"));
  CHECK_THAT(rendered("{{ 'x'|indent(999999999, true) }}"), Contains("grows too long"));
  CHECK_THAT(
      rendered("{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"),
      Contains("too many steps"));
  CHECK_THAT(rendered("{{ [0] * 1000000000 }}"), Contains("too many steps"));
}

TEST_CASE("a value that shares its parts cannot print without end") {
  const std::string source =
      "{% set ns = namespace(x=[], y=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, "
      "ns.y] %}{% endfor %}";
  CHECK_THAT(rendered(source + "{{ ns.x }}"), Contains("error: "));
  CHECK_THAT(rendered(source + "{{ ns.x|tojson }}"), Contains("error: "));
  CHECK_THAT(rendered(source + "{{ ns.x == ns.y }}"), Contains("error: "));
}

TEST_CASE("the output has its own limit") {
  models::template_budget budget;
  budget.output_bytes = 100;
  CHECK(rendered("{{ 'a' * 100 }}", value::dict({}), budget) == std::string(100, 'a'));
  CHECK_THAT(rendered("{{ 'a' * 101 }}", value::dict({}), budget), Contains("prompt is too long"));
}

TEST_CASE("deep nesting in the source is a parse error") {
  const std::pair<std::string, std::string> brackets[] = {{"[", "]"}, {"(", ")"},   {"{1:", "}"},
                                                          {"-", ""},  {"not ", ""}, {"a[", "]"}};
  for (const auto& [open, close] : brackets) {
    const auto parsed = chat_template::parse("\n\n{{ " + many(100'000, open) + "1" + many(100'000, close) + " }}");
    REQUIRE_FALSE(parsed);
    CHECK(parsed.why().code == errc::corrupt_file);
    CHECK_THAT(parsed.why().text, Contains("line 3") && Contains("nests too deeply"));
  }
  CHECK_THAT(rendered(many(100'000, "{% if 1 %}")), Contains("nests too deeply"));
  CHECK_THAT(rendered("{{ 1" + many(100'000, " + 1") + " }}"), Contains("nests too deeply"));
  CHECK_THAT(rendered("{{ a" + many(100'000, ".b") + " }}"), Contains("nests too deeply"));
  CHECK_THAT(rendered("{{ a" + many(100'000, "|trim") + " }}"), Contains("nests too deeply"));
}

TEST_CASE("a macro that calls itself ends at the depth limit") {
  CHECK_THAT(rendered("{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}"),
             Contains("line 2") && Contains("nests too deeply"));
  CHECK_THAT(rendered("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}"),
             Contains("nests too deeply"));
}

TEST_CASE("a namespace that holds itself prints no endless text") {
  CHECK_THAT(rendered("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"), Contains("nests too deeply"));
  CHECK_THAT(rendered("{% set ns = namespace() %}{% for i in range(500) %}{% set ns.l = [ns.l] %}{% endfor %}"),
             Contains("nests too deeply"));
}

TEST_CASE("templates reach nothing of the host") {
  CHECK(rendered("{{ ''.__class__ }}") == "");
  CHECK_THAT(rendered("{{ ''.__class__.__mro__ }}"), Contains("no attribute '__class__'"));
  CHECK_THAT(rendered("{{ raise_exception.__globals__['os'] }}"), Contains("no attribute '__globals__'"));
  CHECK_THAT(rendered("{% include 'x' %}"), Contains("unknown tag 'include'"));
  CHECK_THAT(rendered("{{ 1|shell }}"), Contains("there is no filter 'shell'"));
}

TEST_CASE("integers that do not fit end the render") {
  CHECK_THAT(rendered("{{ 9223372036854775807 + 1 }}"), Contains("integer overflow"));
  CHECK_THAT(rendered("{{ 3 ** 999999999 }}"), Contains("integer overflow"));
  CHECK_THAT(rendered("{{ (-9223372036854775807 - 1) // -1 }}"), Contains("integer overflow"));
  CHECK(rendered("{{ (-9223372036854775807 - 1) % -1 }}") == "0");
  CHECK_THAT(rendered("{{ 99999999999999999999 }}"), Contains("too large"));
}
