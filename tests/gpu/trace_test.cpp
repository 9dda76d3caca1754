// The ranges that a profiler sees, recorded by standing in for one: NVTX calls what this name points to at its first
// range.
#include <nvtx3/nvToolsExt.h>

#include <atomic>
#include <mutex>
#include <set>
#include <string>

#include "tests/actors/engine_bench.hpp"

using namespace troupe;
using namespace troupe::actors;

namespace {

std::mutex guard;
std::set<std::string> seen;
std::atomic<int> open_ranges{0};
thread_local int depth = 0;

int push(const char* name) {
  const std::lock_guard lock(guard);
  seen.insert(name);
  ++open_ranges;
  return depth++;
}
int pop() {
  --open_ranges;
  return --depth;
}

int stand_in(NvtxGetExportTableFunc_t table_of) {
  const auto* tables = static_cast<const NvtxExportTableCallbacks*>(table_of(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable calls = nullptr;
  unsigned int size = 0;
  if (tables == nullptr || tables->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &calls, &size) == 0) return 0;
  *calls[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *calls[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}

}  // namespace

TEST_CASE("a profiler sees ranges named after the engine's actors, and each one's end") {
  InitializeInjectionNvtx2_fnptr = stand_in;
  {
    engine_bench b;
    const auto answer = b.ask(1, {1, 2, 3}, 5);
    REQUIRE(answer->wait());
  }
  const std::lock_guard lock(guard);
  for (const char* name : {"scheduler", "kv_store", "prefill", "decode", "stream", "tokenizer", "supervisor"}) {
    INFO(name);
    CHECK(seen.count(name) == 1);
  }
  CHECK(open_ranges == 0);
}
