// The workload host-tier: what it costs to have a prompt's K and V come back from host memory, and what copies cost
// decodes.
#include <atomic>
#include <thread>

#include "cli/workload_figures.hpp"
#include "kernels/cuda/kv_copies.hpp"

namespace troupe::cli {
namespace {

using actors::clock;

/// GB/s of orders of so many blocks each way, alone and both at once; blocks and places in no order.
struct copy_rates {
  double out = 0, in = 0, both_out = 0, both_in = 0;
};

class copy_load {
public:
  static result<std::unique_ptr<copy_load>> create(device_rig& rig, std::int32_t blocks) {
    auto kv = rig.lane().make_kv(rig.network().shape().kv(), 2 * blocks);
    if (!kv) return kv.why();
    auto copies =
        kernels::cuda::make_kv_copies(**kv, 2 * blocks * rig.lane().kv_block_bytes(rig.network().shape().kv()));
    if (!copies) return copies.why();
    return std::unique_ptr<copy_load>(new copy_load(*std::move(kv), *std::move(copies), blocks));
  }

  /// Each way has its half of blocks and places.
  double run(memory::copy_way way, int orders, std::int32_t each) {
    const std::int32_t from = way == memory::copy_way::out ? 0 : blocks_;
    std::mt19937 random(way == memory::copy_way::out ? 1 : 2);
    std::vector<memory::block_copy> order;
    for (std::int32_t i = 0; i < each; ++i) order.push_back({from + i, from + each - 1 - i});
    std::shuffle(order.begin(), order.end(), random);
    const auto start = clock::now();
    for (int i = 0; i < orders; ++i)
      if (auto r = copies_->make(way, order); !r) failed_ = true;
    return static_cast<double>(orders) * each * static_cast<double>(copies_->block_bytes) / since(start) / 1e9;
  }
  copy_rates rates(std::int32_t each) {
    const int orders = 1024 / each;
    copy_rates found;
    run(memory::copy_way::out, orders, each);
    found.out = run(memory::copy_way::out, orders, each);
    found.in = run(memory::copy_way::in, orders, each);
    std::thread other([&] { found.both_in = run(memory::copy_way::in, orders, each); });
    found.both_out = run(memory::copy_way::out, orders, each);
    other.join();
    return found;
  }
  bool failed() const { return failed_; }

private:
  copy_load(std::unique_ptr<kernels::kv_arena> kv, std::unique_ptr<kernels::kv_copies> copies, std::int32_t blocks)
      : kv_(std::move(kv)), copies_(std::move(copies)), blocks_(blocks) {}
  std::unique_ptr<kernels::kv_arena> kv_;
  std::unique_ptr<kernels::kv_copies> copies_;
  std::int32_t blocks_;
  std::atomic<bool> failed_{false};
};

result<void> first_tokens(device_rig& rig, const device_bench_options& o, std::int32_t length) {
  const std::int32_t blocks = blocks_for(length) * 3 / 2;
  const std::int64_t bytes = 3 * std::int64_t{blocks} * rig.lane().kv_block_bytes(rig.network().shape().kv());
  timeline t;
  const auto pinning = clock::now();
  auto steps = planned_steps::create(rig.model(), rig.lane(),
                                     {8, 2048, blocks, 0, nullptr, warm_up, true, bytes, kernels::cuda::make_kv_copies},
                                     t.listener());
  if (!steps) return steps.why();
  const double pinned = since(pinning);
  std::mt19937 random(4);
  const std::int32_t vocabulary = rig.network().shape().vocabulary;
  const auto ask = [&](const std::vector<std::int32_t>& prompt) -> result<double> {
    t.add();
    const auto start = clock::now();
    const auto id = (*steps)->submit(prompt, 2);
    if (auto r = (*steps)->finish(); !r) return r.why();
    return ms(t.tokens[id - 1].front() - start);
  };
  // As large as the pool, and gone before it has computed more than a step: what was cached goes to the host.
  const auto push_out = [&]() -> result<void> {
    t.add();
    const auto id = (*steps)->submit(random_prompt((blocks - 2) * 16, vocabulary, random), 2);
    (*steps)->take_figures();
    while (!(*steps)->take_figures().steps)
      if (auto r = (*steps)->advance(); !r) return r;
    (*steps)->end(id);
    return (*steps)->finish();
  };
  std::vector<double> computed, there, back, full;
  for (int i = 0; i < 5; ++i) {
    const auto one = random_prompt(length, vocabulary, random), other = random_prompt(length, vocabulary, random);
    const auto note = [&](std::vector<double>& to, const std::vector<std::int32_t>& prompt) -> result<void> {
      const auto took = ask(prompt);
      if (took && i > 0) to.push_back(*took);  // the first round makes what steps need
      return took ? result<void>() : took.why();
    };
    if (auto r = note(computed, one); !r) return r;
    if (auto r = note(there, one); !r) return r;
    if (auto r = push_out(); !r) return r;
    if (auto r = note(back, one); !r) return r;  // to free blocks
    if (auto r = ask(other); !r) return r.why();
    if (auto r = note(full, one); !r) return r;  // while the other leaves for it
  }
  for (auto* all : {&computed, &there, &back, &full}) std::sort(all->begin(), all->end());
  figure_row row(o, "host-tier", 2048);
  row.add("prompt", length, "%.0f tokens:");
  row.add("computed_ms", share(computed, 0.5), "computed %.1f ms,");
  row.add("device_ms", share(there, 0.5), "found on the device %.2f,");
  row.add("host_ms", share(back, 0.5), "found on the host %.2f,");
  row.add("host_full_ms", share(full, 0.5), "when another must leave first %.2f;");
  row.add("pin_s", pinned, "memory pinned in %.2f s");
  row.print();
  return {};
}

result<void> beside_decodes(device_rig& rig, const device_bench_options& o, copy_load& load) {
  constexpr std::int32_t decodes = 32, context = 512, tokens = 1200;
  timeline t;
  auto steps = planned_steps::create(rig.model(), rig.lane(),
                                     {decodes, 2048, blocks_for(context + tokens + 16) * decodes, 0, nullptr, warm_up},
                                     t.listener());
  if (!steps) return steps.why();
  std::mt19937 random(5);
  for (std::int32_t i = 0; i < decodes; ++i) {
    t.add();
    (*steps)->submit(random_prompt(context, rig.network().shape().vocabulary, random), tokens);
  }
  const auto some_steps = [&](std::size_t more) -> result<std::vector<double>> {
    while (t.tokens.back().empty())
      if (auto r = (*steps)->advance(); !r) return r.why();
    const std::size_t until = t.tokens[0].size() + more;
    const auto from = clock::now();
    while (t.tokens[0].size() < until)
      if (auto r = (*steps)->advance(); !r) return r.why();
    return token_gaps(t, 0, decodes, from);
  };
  if (auto r = some_steps(50); !r) return r.why();
  auto alone = some_steps(200);
  if (!alone) return alone.why();
  std::atomic<bool> enough{false};
  std::thread out([&] {
    while (!enough) load.run(memory::copy_way::out, 1, 32);
  });
  std::thread in([&] {
    while (!enough) load.run(memory::copy_way::in, 1, 128);
  });
  auto beside = some_steps(200);
  enough = true;
  out.join();
  in.join();
  if (!beside) return beside.why();
  auto again = some_steps(200);  // each step attends to more than the one before
  if (!again) return again.why();
  figure_row row(o, "host-tier", 0);
  row.add("before_p50_ms", share(*alone, 0.5), "32 decodes alone p50 %.3f");
  row.add("before_p99_ms", share(*alone, 0.99), "p99 %.3f ms,");
  row.add("beside_p50_ms", share(*beside, 0.5), "beside copies both ways p50 %.3f");
  row.add("beside_p99_ms", share(*beside, 0.99), "p99 %.3f ms,");
  row.add("after_p50_ms", share(*again, 0.5), "alone again p50 %.3f");
  row.add("after_p99_ms", share(*again, 0.99), "p99 %.3f ms");
  row.print();
  return {};
}

}  // namespace

result<void> host_tier(device_rig& rig, const device_bench_options& o) {
  {
    auto load = copy_load::create(rig, 512);
    if (!load) return load.why();
    for (const std::int32_t each : {1, 32, 512}) {
      const copy_rates rates = (*load)->rates(each);
      figure_row row(o, "host-tier", 0);
      row.add("order_blocks", each, "orders of %.0f blocks:");
      row.add("out_gb_s", rates.out, "out %.1f");
      row.add("in_gb_s", rates.in, "in %.1f GB/s,");
      row.add("both_out_gb_s", rates.both_out, "both at once: out %.1f");
      row.add("both_in_gb_s", rates.both_in, "in %.1f");
      row.print();
    }
    if (auto r = beside_decodes(rig, o, **load); !r) return r;
    if ((*load)->failed()) return error{errc::internal, "copies of KV blocks failed", {}};
  }
  for (const std::int32_t length : {4096, 16384})
    if (auto r = first_tokens(rig, o, length); !r) return r;
  return {};
}

}  // namespace troupe::cli
