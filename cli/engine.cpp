// Starts the runtime and loads the model, with the errors a person can act on.
#include "cli/engine.hpp"

#include "models/catalogue/model_cache.hpp"

namespace troupe::cli {

memory::copy_folder copies_of(const engine_options& o) {
  return {models::model_cache().copies().string(), static_cast<std::int64_t>(o.copies_gib * (1 << 30))};
}

result<engine> start_engine(const engine_options& o, std::function<void(const error&)> on_lost) {
  runtime_options options;
  options.device = o.device;
  options.gpu_memory = o.gpu_memory;
  options.threads = o.threads;
  options.isa = o.isa;
  options.repack = !o.no_repack;
  options.kv_type = o.kv_type;
  options.weight_type = o.weight_type;
  options.deterministic = o.deterministic;
  options.prefill_queue = o.prefill_queue;
  const memory::copy_folder copies = copies_of(o);
  options.copies = copies.path;
  options.copies_bytes = copies.most_bytes;
  options.kv_bytes = static_cast<std::int64_t>(o.kv_gib * 1024 * 1024 * 1024);
  options.host_kv_bytes = static_cast<std::int64_t>(o.host_kv_gib * 1024 * 1024 * 1024);
  options.prefix_cache = !o.no_prefix_cache;
  options.max_sequences = o.max_sequences;
  options.max_batch_tokens = o.max_batch_tokens;
  options.max_queued = o.queue;
  options.on_engine_lost = std::move(on_lost);
  try {
    auto runtime = std::make_unique<troupe::runtime>(options);
    auto model = runtime->try_load(o.model);
    if (!model) return model.why();
    return engine{std::move(runtime), std::move(*model)};
  } catch (const failure& e) {
    return e.why();
  }
}

}  // namespace troupe::cli
