// encode_prompt to admit_sequence. An encoder that throws (out of memory) fails one generation.
#include "actors/tokenizer/tokenizer_actor.hpp"

#include <exception>
#include <utility>

#include "actors/actor_base.hpp"
#include "actors/tokenizer/prompt_encoder.hpp"

namespace troupe::actors {
namespace {

class tokenizer_actor : public actor_base<tokenizer_handle> {
public:
  tokenizer_actor(caf::actor_config& config, std::shared_ptr<const prompt_encoder> encoder,
                  std::shared_ptr<engine_metrics> metrics)
      : actor_base(config, metrics ? std::move(metrics) : std::make_shared<engine_metrics>()),
        encoder_(std::move(encoder)) {}

  const char* name() const override { return "tokenizer"; }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const encode_prompt& m) {
          if (!links_ || m.shard >= links_->streams.size()) return;
          auto encoded = encode(m);
          if (encoded) tell(links_->scheduler, admit_sequence{encoded->terms, encoded->ids, m.shard});
          else tell(links_->streams[m.shard], generation_failed{m.id, encoded.why()});
        },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) { stop(); },
    };
  }

private:
  result<encoded_prompt> encode(const encode_prompt& m) const {
    try {
      return encoder_->encode(m.id, *m.what, std::chrono::system_clock::now());
    } catch (const std::exception& e) {
      return error{errc::internal, std::string("the prompt could not be encoded: ") + e.what(), {}};
    }
  }

  std::shared_ptr<const prompt_encoder> encoder_;
};

}  // namespace

tokenizer_handle spawn_tokenizer(caf::actor_system& system, std::shared_ptr<const prompt_encoder> encoder,
                                 std::shared_ptr<engine_metrics> metrics) {
  return system.spawn<tokenizer_actor>(std::move(encoder), std::move(metrics));
}

}  // namespace troupe::actors
