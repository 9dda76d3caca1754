// Metrics as Prometheus reads them.
#include "base/prometheus_page.hpp"

#include <array>

#include "support/catch.hpp"

using namespace troupe::base;

TEST_CASE("buckets hold all that is no longer than their bound, and sums and the maximum are in seconds") {
  constexpr std::array bounds = {1e-6, 5e-6, 2.0};
  duration_histogram seen{bounds};
  seen.observe(std::chrono::microseconds(5));
  seen.observe(std::chrono::microseconds(100));
  seen.observe(std::chrono::seconds(5));
  seen.observe(std::chrono::seconds(1));
  CHECK(seen.max_seconds() == 5);
  std::string text;
  prometheus_page page(text, "model");
  page.begin("gap_seconds", prometheus_page::kind::histogram, "A gap.");
  page.sample("m", seen);
  CHECK(text ==
        "# HELP gap_seconds A gap.\n"
        "# TYPE gap_seconds histogram\n"
        "gap_seconds_bucket{model=\"m\",le=\"1e-06\"} 0\n"
        "gap_seconds_bucket{model=\"m\",le=\"5e-06\"} 1\n"
        "gap_seconds_bucket{model=\"m\",le=\"2\"} 3\n"
        "gap_seconds_bucket{model=\"m\",le=\"+Inf\"} 4\n"
        "gap_seconds_sum{model=\"m\"} 6.000105\n"
        "gap_seconds_count{model=\"m\"} 4\n");
}

TEST_CASE("a label's quotes and backslashes are escaped, and its lines are one") {
  std::string text;
  prometheus_page page(text, "model");
  page.begin("used", prometheus_page::kind::gauge, "Used.");
  page.sample("a\"b\\c\nd", std::int64_t{-3});
  page.sample("m", true);
  page.sample("m", 0.5);
  CHECK(text ==
        "# HELP used Used.\n# TYPE used gauge\nused{model=\"a\\\"b\\\\c d\"} -3\nused{model=\"m\"} "
        "1\nused{model=\"m\"} 0.5\n");
}

TEST_CASE("a histogram of more bounds than it has room for leaves the longest out") {
  std::array<double, duration_histogram::most_bounds + 3> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = static_cast<double>(i);
  duration_histogram seen{bounds};
  REQUIRE(seen.bounds().size() == duration_histogram::most_bounds);
  seen.observe(std::chrono::hours(1));
  CHECK(seen.bucket(duration_histogram::most_bounds) == 1);
}
