// Which events a watcher is due.
#include "actors/stream/subscription.hpp"

namespace troupe::actors {

void subscription::deliver(std::uint64_t generation_id, const generation& from, std::size_t delta_bytes,
                           std::vector<delivery>& out) {
  const auto send = [&](event e) { out.push_back({generation_id, id_, sink_, std::move(e)}); };
  const bool begun = from.where() != generation::state::accepted && (!from.failure() || from.used().prompt_tokens > 0);
  if (!started_ && begun && spend()) {
    started_ = true;
    send(from.started_event(generation_id, cursor_));
  }
  if (begun && !started_) return;
  while (cursor_ < from.log().size() && spend()) {  // a token without text too: clients count and time them
    event e = from.delta_event(generation_id, cursor_, delta_bytes);
    cursor_ = e.next_offset;
    send(std::move(e));
  }
  if (from.ended() && !complete_ && cursor_ == from.log().size() && spend()) {
    complete_ = true;
    send(from.last_event(generation_id));
  }
}

void subscription::deliver_end(std::uint64_t generation_id, const generation& from, const error& why,
                               std::vector<delivery>& out) {
  if (complete_) return;
  complete_ = true;
  event e = from.last_event(generation_id);
  if (cursor_ < from.log().size()) {
    e.what = event::kind::failed;
    e.offset = e.next_offset = cursor_;
    e.why = why;
  }
  out.push_back({generation_id, id_, sink_, std::move(e)});
}

}  // namespace troupe::actors
