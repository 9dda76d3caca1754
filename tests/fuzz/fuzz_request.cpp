// libFuzzer: any bytes as a client's JSON, on every route that takes some. What is accepted keeps the limits that
// request.hpp promises; what is refused says why.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/chat_request.hpp"

namespace {

using namespace troupe::server;

void require(bool holds) {
  if (!holds) std::abort();
}

bool within(float value, float low, float high) { return std::isfinite(value) && value >= low && value <= high; }

void check(const parsed_request& parsed) {
  const auto& what = parsed.what;
  require(within(what.how.temperature, 0, 2));
  require(within(what.how.top_p, 0, 1) && what.how.top_p > 0);
  require(within(what.how.min_p, 0, 1));
  require(within(what.how.repetition_penalty, 0, 10) && what.how.repetition_penalty > 0);
  require(within(what.how.presence_penalty, -2, 2) && within(what.how.frequency_penalty, -2, 2));
  require(what.how.top_k >= 0 && what.how.logit_bias.size() <= 1024);
  for (const auto& [id, bias] : what.how.logit_bias) require(id >= 0 && within(bias, -100, 100));
  require(!what.max_tokens || *what.max_tokens >= 1);
  require(what.stop.size() <= 16);
  for (const auto& stop : what.stop) require(!stop.empty() && stop.size() <= 256);
  require(what.top_logprobs >= -1 && what.top_logprobs <= 20);
}

void check(const troupe::result<parsed_request>& parsed) {
  if (parsed) check(*parsed);
  else require(!parsed.why().text.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  check(parse_chat(body));
  check(parse_completion(body));
  check(parse_generation(body));
  const auto message = parse_client_message(body);
  if (message.what == client_message::kind::generate) check(message.ask);
  if (message.what == client_message::kind::unreadable) require(!message.wrong.text.empty());
  return 0;
}
