// Errors say where and why; the corners that the comparison with Jinja2 does not reach.
#include "support/catch.hpp"

#include <atomic>
#include <thread>

#include "support.hpp"

using namespace chat_template_test;
using Catch::Matchers::Contains;

TEST_CASE("errors carry the template's name and the line") {
  CHECK(rendered("a\n\n{{ x.y }}") == "error: chat template, line 3: 'x' is undefined");
  CHECK(rendered("{% if a %}\n\n{% endfor %}") == "error: chat template, line 3: unknown tag 'endfor'");
  CHECK(rendered("\n{{ 'abc }}") == "error: chat template, line 2: a string has no end");
  CHECK(rendered("{{ 1 +\n\n * 2 }}") == "error: chat template, line 3: expected an expression, found '*'");
  CHECK(rendered("{% set x = 1 %}\n{{ x\n.y\n.z }}") == "error: chat template, line 2: int has no attribute 'y'");
  CHECK_THAT(rendered("{# never closed"), Contains("a comment has no end"));
  CHECK_THAT(rendered("{% raw %}{{ x }}"), Contains("a raw block has no end"));
  CHECK_THAT(rendered("{% break %}"), Contains("outside of a loop"));
  CHECK_THAT(rendered("{{ [1).x }}"), Contains("unexpected ')'"));
}

TEST_CASE("raise_exception gives its own words and an invalid argument") {
  const auto made = spans("{{ raise_exception('Roles must alternate') }}");
  REQUIRE_FALSE(made);
  CHECK(made.why().code == errc::invalid_argument);
  CHECK(made.why().text == "Roles must alternate");
}

TEST_CASE("strftime_now shows the time that was given") {
  CHECK(rendered("{{ strftime_now('%d %b %Y, %A %-d %B %y %H:%M:%S %j %I%p %%') }}") ==
        "06 May 2024, Monday 6 May 24 07:08:09 127 07AM %");
}

TEST_CASE("lists and dicts cannot be changed") {
  CHECK_THAT(rendered("{% set l = [] %}{{ l.append(1) }}"), Contains("cannot be changed"));
  CHECK_THAT(rendered("{% set d = {} %}{{ d.update(a=1) }}"), Contains("cannot be changed"));
}

TEST_CASE("a macro sees the names around it and may leave its block only by name") {
  CHECK(rendered("{% set a = 1 %}{% macro m() %}{{ a }}{% endmacro %}{% set a = 2 %}{{ m() }}") == "2");
  CHECK(rendered("{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}") == "12");
  CHECK_THAT(rendered("{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{% set ns.m = m "
                      "%}{% endfor %}{{ ns.m() }}"),
             Contains("outside of the block"));
}

TEST_CASE("bytes that are not UTF-8 pass through") {
  const value context = with("u", value::untrusted("\xff\xc3"
                                                   "a\xe2\x82"));
  CHECK(rendered("{{ u.strip() }}{{ u|length }}{{ u[::-1]|length }}", context) ==
        "\xff\xc3"
        "a\xe2\x82"
        "55");
}

TEST_CASE("one template renders on several threads at once") {
  const auto parsed = chat_template::parse("{% for x in l %}{% set y = x|upper %}{{ y }}{% endfor %}");
  REQUIRE(parsed);
  const value context = with("l", value::list({value::untrusted("a"), value::untrusted("b")}));
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        const auto made = parsed->render(context, now);
        right += made && models::joined(*made) == "AB";
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(right == 400);
}

TEST_CASE("large dicts keep their order and the last of equal keys") {
  std::vector<std::pair<value, value>> entries;
  for (int i = 0; i < 20000; ++i)
    entries.emplace_back(value::untrusted("k" + std::to_string(i % 10000)), value::integer(i));
  const value context = with("d", value::dict(std::move(entries)));
  CHECK(rendered("{{ d|length }} {{ d.k0 }} {{ d['k9999'] }} {{ (d|list)[:2] }}", context) ==
        "10000 10000 19999 ['k0', 'k1']");
}
