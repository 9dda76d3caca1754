// The runtime: one actor system, an engine per model, and the service over them; models and their questions.
#include <troupe/runtime.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include <troupe/pipeline.hpp>

#include "actors/engine.hpp"
#include "actors/stream/stream_counters.hpp"
#include "models/catalogue/model_cache.hpp"
#include "models/model.hpp"
#include "models/tokenizer/tokenizer.hpp"
#include "pipelines/engine_service.hpp"
#include "pipelines/generation_reader.hpp"
#include "pipelines/pipeline_run.hpp"

namespace troupe {
namespace {

constexpr std::size_t actor_threads = 2;  // handlers are short; the lane's team does the work

actors::engine_options engine_options_of(const runtime_options& o) {
  actors::engine_options out;
  out.device = o.device;
  out.gpu_memory = o.gpu_memory;
  out.threads = o.threads;
  out.isa = o.isa;
  out.repack = o.repack;
  out.kv_type = o.kv_type;
  out.weight_type = o.weight_type;
  out.deterministic = o.deterministic;
  out.prefill_queue = o.prefill_queue;
  out.copies = {o.copies, o.copies_bytes};
  out.kv_bytes = o.kv_bytes;
  out.host_kv_bytes = o.host_kv_bytes;
  out.prefix_cache = o.prefix_cache;
  out.context_length = o.context_length;
  out.max_sequences = o.max_sequences;
  out.max_batch_tokens = o.max_batch_tokens;
  out.queue_sequences = static_cast<std::size_t>(o.max_queued);
  out.stream.time_to_live = o.keep_ended;
  out.on_lost = o.on_engine_lost;
  return out;
}

result<void> check_options(const runtime_options& o) {
  const auto wrong = [](const char* param) {
    return error{errc::invalid_argument, std::string("the runtime option ") + param + " is out of range", param};
  };
  if (o.device != "cpu" && o.device != "cuda" && o.device != "auto") return wrong("device");
  if (!(o.gpu_memory > 0 && o.gpu_memory <= 1)) return wrong("gpu_memory");
  if (!o.prefill_queue.empty() && o.prefill_queue != "mixed" && o.prefill_queue != "beside" &&
      o.prefill_queue != "divided")
    return wrong("prefill_queue");
  if (o.threads < 0 || o.threads > 1024) return wrong("threads");
  if (o.copies_bytes < 0) return wrong("copies_bytes");
  if (o.kv_bytes < 0) return wrong("kv_bytes");
  if (o.host_kv_bytes < 0) return wrong("host_kv_bytes");
  if (o.context_length < 0) return wrong("context_length");
  if (o.max_sequences < 0 || o.max_sequences > 4096) return wrong("max_sequences");
  if (o.max_batch_tokens < 0 || o.max_batch_tokens > 65'536) return wrong("max_batch_tokens");
  if (o.max_queued < 1) return wrong("max_queued");
  if (o.keep_ended.count() < 0) return wrong("keep_ended");
  return {};
}

std::int64_t changed_at(const std::filesystem::path& path) {
  struct stat about{};
  return ::stat(path.c_str(), &about) == 0 ? static_cast<std::int64_t>(about.st_mtime) : 0;
}

}  // namespace

class model::state {
public:
  model_card card;
  std::shared_ptr<pipelines::engine_service> service;
};

class runtime::state {
public:
  explicit state(runtime_options o) : options(o), service(std::make_shared<pipelines::engine_service>()) {
    config.set("scheduler.policy", caf::atom("sharing"));
    config.set("scheduler.max-threads", actor_threads);
    system.emplace(config);
  }
  ~state() {
    service->close();
    for (auto& one : engines) one->stop();
    engines.clear();
  }

  result<model_card> load(const std::string& name_or_path);
  /// No generation is open.
  bool idle() {
    const std::lock_guard lock(loading);
    return std::all_of(engines.begin(), engines.end(), [](const auto& one) { return one->stream_counts()->live == 0; });
  }

  runtime_options options;
  std::shared_ptr<pipelines::engine_service> service;
  caf::actor_system_config config;
  std::optional<caf::actor_system> system;
  std::mutex loading;  // one model at a time; guards engines
  std::vector<std::unique_ptr<actors::engine>> engines;
};

result<model_card> runtime::state::load(const std::string& name_or_path) {
  const auto path = models::model_cache().resolve(name_or_path);
  if (!path) return path.why();
  const std::lock_guard lock(loading);
  auto made = actors::engine::create(*system, path->string(), engine_options_of(options));
  if (!made) return made.why();
  const actors::engine& engine = **made;

  pipelines::served_model served;
  served.card = {path->stem().string(), changed_at(*path), engine.context_length(), engine.model().tokenizer->size()};
  served.links = engine.links();
  served.stream = engine.stream_counts();
  served.engine = engine.metrics();
  const model_card card = served.card;
  if (auto ok = service->add(std::move(served)); !ok) return ok.why();
  engines.push_back(*std::move(made));
  return card;
}

runtime::runtime(runtime_options options) {
  if (auto ok = check_options(options); !ok) throw failure(ok.why());
  state_ = std::make_shared<state>(options);
}

runtime::~runtime() = default;

model runtime::load(const std::string& name_or_path) { return try_load(name_or_path).value_or_throw(); }

result<model> runtime::try_load(const std::string& name_or_path) {
  auto card = state_->load(name_or_path);
  if (!card) return card.why();
  auto made = std::make_shared<model::state>();
  made->card = *std::move(card);
  made->service = state_->service;
  return model(std::move(made));
}

service& runtime::as_service() { return *state_->service; }

result<void> runtime::run(const pipeline& what) { return pipelines::run_graph(*state_->system, what.built()); }

bool runtime::drain(std::chrono::milliseconds limit) {
  struct countdown {
    std::mutex mutex;
    std::condition_variable changed;
    std::size_t left = 0;
  };
  const auto all = std::make_shared<countdown>();
  {
    const std::lock_guard lock(state_->loading);
    all->left = state_->engines.size();
    for (auto& one : state_->engines)
      one->drain([all] {
        const std::lock_guard done(all->mutex);
        --all->left;
        all->changed.notify_all();
      });
  }
  const auto until = std::chrono::steady_clock::now() + limit;
  {
    std::unique_lock lock(all->mutex);
    if (!all->changed.wait_until(lock, until, [&] { return all->left == 0; })) return false;
  }
  // What was still on its way to a scheduler has been refused; its shard may have yet to say so.
  while (!state_->idle()) {
    if (std::chrono::steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

const model_card& model::card() const noexcept { return state_->card; }

result<generation> model::try_ask(request what, operator_chain operators) const {
  const auto reader = std::make_shared<generation::reader>(state_->service);
  auto chain = operators.empty() ? nullptr : std::make_shared<const operator_chain>(std::move(operators));
  auto opened = state_->service->submit(state_->card.name, std::move(what), std::move(chain), reader,
                                        generation::reader::window, false);
  if (!opened) return opened.why();
  reader->opened(*opened);
  return generation(reader);
}

generation model::ask(decltype(request::prompt) prompt, ask_options options) const {
  request what{std::move(prompt),       std::move(options.how), options.max_tokens,
               std::move(options.stop), options.top_logprobs,   options.ignore_eos};
  return try_ask(std::move(what), std::move(options.operators)).value_or_throw();
}

generation model::chat(chat_prompt messages, ask_options options) const {
  return ask(std::move(messages), std::move(options));
}
generation model::complete(std::string text, ask_options options) const {
  return ask(std::move(text), std::move(options));
}
generation model::complete(token_prompt ids, ask_options options) const {
  return ask(std::move(ids), std::move(options));
}

}  // namespace troupe
