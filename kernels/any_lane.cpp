// The one place that knows all back ends.
#include "kernels/any_lane.hpp"

#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/kv_copies.hpp"

namespace troupe::kernels {
namespace {

/// Of the multiprocessors, so many of eight compute prompts while others decode (bench/cuda.md).
constexpr std::int32_t prompt_eighths = 3;

result<std::unique_ptr<lane>> second_queue(lane& of, bool divided) {
  auto& device = static_cast<cuda::cuda_lane&>(of);
  const auto about = cuda::find_device();
  if (!about) return about.why();
  if (auto r = device.divide(divided ? about->multiprocessors * prompt_eighths / 64 * 8 : 0); !r) return r.why();
  return device.make_second_queue();
}

result<void> warm_up(lane& of, step_space* space, const step_ops& whole, const step_ops& ends, std::int32_t blocks) {
  return static_cast<cuda::cuda_lane&>(of).warm_up(*space, {whole, ends}, blocks);
}

result<any_lane> make_on_cpu(const lane_wish& wish) {
  if (!wish.weight_type.empty())
    return error{
        errc::invalid_argument,
        "Weights can be kept as '" + wish.weight_type + "' on a GPU only; the CPU computes from the file's types.",
        "weight_type"};
  const auto options = choose_lane(wish);
  if (!options) return options.why();
  auto made = make_cpu_lane(*options);
  if (!made) return made.why();
  return any_lane{*std::move(made), "cpu", options->threads, std::string(to_string(options->which)), {}, {}, {}};
}

}  // namespace

result<any_lane> make_lane(const std::string& device, const lane_wish& on_cpu) {
  if (device == "cpu") return make_on_cpu(on_cpu);
  if (device != "cuda" && device != "auto")
    return error{errc::invalid_argument, "There is no device named '" + device + "'; cpu, cuda and auto are known.",
                 "device"};
  const auto found = cuda::find_device();
  if (!found) {
    if (device == "auto") return make_on_cpu(on_cpu);
    return found.why();
  }
  auto made = cuda::make_cuda_lane({.weights = on_cpu.weight_type,
                                    .kv = on_cpu.kv_type,
                                    .deterministic = on_cpu.deterministic,
                                    .copies = on_cpu.copies});
  if (!made) return made.why();
  const bool narrow = !on_cpu.kv_type.empty() && on_cpu.kv_type != "bf16";
  return any_lane{*std::move(made),
                  "cuda",
                  0,
                  "sm_" + std::to_string(found->architecture),
                  narrow ? nullptr : second_queue,
                  warm_up,
                  cuda::make_kv_copies};
}

}  // namespace troupe::kernels
