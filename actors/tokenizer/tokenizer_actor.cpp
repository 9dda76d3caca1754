// encode_prompt to admit_sequence. An encoder that throws (out of memory) fails one generation.
#include "actors/tokenizer/tokenizer_actor.hpp"

#include <exception>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/tokenizer/prompt_encoder.hpp"

namespace troupe::actors {
namespace {

class tokenizer_actor : public tokenizer_handle::base {
public:
  tokenizer_actor(caf::actor_config& config, std::shared_ptr<const prompt_encoder> encoder)
      : tokenizer_handle::base(config), encoder_(std::move(encoder)) {
    set_exception_handler([](std::exception_ptr&) -> caf::error { return caf::sec::runtime_error; });
  }

  const char* name() const override { return "tokenizer"; }

  void on_exit() override { links_.reset(); }

protected:
  behavior_type make_behavior() override {
    return {
        [this](const encode_prompt& m) {
          if (!links_ || m.shard >= links_->streams.size()) return;
          auto encoded = encode(m);
          if (encoded)
            send(links_->scheduler, admit_sequence{encoded->terms, encoded->ids, m.shard});
          else
            send(links_->streams[m.shard], generation_failed{m.id, encoded.why()});
        },
        [this](const wire_engine& m) { links_ = m.links; },
        [this](const stop_actor&) {
          links_.reset();
          quit();
        },
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
  std::shared_ptr<const engine_links> links_;
};

}  // namespace

tokenizer_handle spawn_tokenizer(caf::actor_system& system, std::shared_ptr<const prompt_encoder> encoder) {
  return system.spawn<tokenizer_actor>(std::move(encoder));
}

}  // namespace troupe::actors
