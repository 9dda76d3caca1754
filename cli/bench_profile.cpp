// The table of `troupe bench --profile`.
#include "cli/bench_profile.hpp"

#include <cstdio>
#include <iostream>

#include "base/json_writer.hpp"

namespace troupe::cli {
namespace {

using kernels::op;
using kernels::op_record;

double operations(const op_record& r) { return r.work.int8_ops + r.work.float_ops; }

void print_row(const std::string& name, const op_record& r, double steps, double whole, double floor) {
  const auto per_step = [&](double value) { return value / steps; };
  std::printf("  %-17s %7.0f %10.1f %6.1f%% %9.2f %9.1f %8.1f %8.1f", name.c_str(),
              per_step(static_cast<double>(r.calls)), per_step(r.seconds) * 1e6, 100 * r.seconds / whole,
              per_step(r.work.bytes) / 1e6, per_step(operations(r)) / 1e6, r.work.bytes / r.seconds / 1e9,
              operations(r) / r.seconds / 1e9);
  if (floor > 0) std::printf(" %6.2f", floor / r.seconds);
  else std::printf(" %6s", "-");
  std::printf(" %9.1f\n", per_step(static_cast<double>(r.barriers)));
}

void print_json_row(const std::string& test, std::string_view name, const op_record& r, double steps, double whole,
                    double floor) {
  std::string line;
  base::json_writer out(line);
  out.begin_object()
      .field("test", test)
      .field("op", name)
      .field("calls", static_cast<double>(r.calls) / steps)
      .field("us", r.seconds / steps * 1e6)
      .field("share_of_step", r.seconds / whole)
      .field("bytes", r.work.bytes / steps)
      .field("int8_ops", r.work.int8_ops / steps)
      .field("float_ops", r.work.float_ops / steps)
      .field("barriers", static_cast<double>(r.barriers) / steps);
  if (floor > 0) out.field("share_of_limit", floor / r.seconds);
  out.end_object();
  std::cout << line << std::endl;
}

}  // namespace

void print_profile(const profiled_test& test, const kernels::machine_limits& limits, bool json) {
  const double whole = test.sums.seconds(), steps = test.steps;
  op_record all;
  double in_layers = 0;
  if (!json)
    std::printf("\n%s, one step, by op:\n  %-17s %7s %10s %7s %9s %9s %8s %8s %6s %9s\n", test.name.c_str(), "op",
                "calls", "us", "share", "MB", "Mop", "GB/s", "Gop/s", "limit", "barriers");
  for (std::size_t i = 0; i < kernels::op_count; ++i) {
    const op which = static_cast<op>(i);
    const op_record& r = test.sums[which];
    if (r.calls == 0) continue;
    const double floor = r.work.seconds(limits);
    all.calls += r.calls;
    all.seconds += r.seconds;
    all.barriers += r.barriers;
    all.work += r.work;
    if (which >= op::norm_qkv && which <= op::gated_mlp) in_layers += static_cast<double>(r.barriers);
    if (json) print_json_row(test.name, to_string(which), r, steps, whole, floor);
    else print_row(std::string(to_string(which)), r, steps, whole, floor);
  }
  const double floor = test.sums.floor().seconds(limits);
  if (json) return print_json_row(test.name, "step", all, steps, whole, floor);
  print_row("step", all, steps, whole, floor);
  std::printf("  %.1f barriers a layer\n\n", in_layers / steps / test.layers);
  std::fflush(stdout);
}

}  // namespace troupe::cli
