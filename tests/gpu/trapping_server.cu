// The troupe program on a device that breaks when a test wants it: while the file named by TROUPE_TEST_BAD_DEVICE
// exists, a kernel of each server process traps, which loses the device for that process as an illegal access would.
// Knows nothing of what follows. `write-model PATH` writes a small model to serve.
#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <cuda_runtime.h>

#include "cli/options.hpp"
#include "tests/support/tiny_model.hpp"

namespace {

__global__ void trap() { asm volatile("trap;"); }

/// In the process that serves: the one that keeps it must not touch the device.
void watch_for_badness() {
  std::thread([file = std::getenv("TROUPE_TEST_BAD_DEVICE")] {
    while (access(file, F_OK) != 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    trap<<<1, 1>>>();
    static_cast<void>(cudaDeviceSynchronize());  // what the engine says of it is what the test is about
  }).detach();
}

int write_model(const char* path) {
  troupe::test::tiny_model_options o;
  o.width = 256, o.heads = 4, o.kv_heads = 2, o.head_dim = 64, o.feed_forward = 512, o.context = 1 << 17;
  return troupe::test::write_tiny_model(path, o) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "write-model") == 0) return write_model(argv[2]);
  if (std::getenv("TROUPE_TEST_BAD_DEVICE")) pthread_atfork(nullptr, nullptr, watch_for_badness);
  return troupe::cli::main(argc, argv);
}
