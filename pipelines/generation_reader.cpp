// Reading and paying back; and the public class over it.
#include "pipelines/generation_reader.hpp"

namespace troupe {

std::optional<event> generation::reader::first() {
  if (next_taken_ == taken_.size()) return std::nullopt;
  event e = std::move(taken_[next_taken_++]);
  ended_ = e.what == event::kind::done || e.what == event::kind::failed;
  if (++read_ >= window / 2 && !ended_) {
    service_->add_credit(as_.generation, as_.subscription, read_);
    read_ = 0;
  }
  return e;
}

std::optional<event> generation::reader::next() {
  if (ended_) return std::nullopt;
  if (auto e = poll()) return e;
  if (!events_.pop(taken_, window)) return std::nullopt;
  return first();
}

std::optional<event> generation::reader::poll() {
  if (ended_) return std::nullopt;
  if (auto e = first()) return e;
  taken_.clear();
  next_taken_ = 0;
  events_.take(taken_, window);
  return first();
}

void generation::reader::leave() {
  events_.on_items({});
  if (!ended_) service_->unsubscribe(as_.generation, as_.subscription);
}

generation::generation(generation&&) noexcept = default;

generation& generation::operator=(generation&& other) noexcept {
  if (this == &other) return *this;
  if (reader_) reader_->leave();
  reader_ = std::move(other.reader_);
  return *this;
}

generation::~generation() {
  if (reader_) reader_->leave();
}

generation_id generation::id() const noexcept { return reader_->id(); }

std::optional<event> generation::next() {
  auto e = reader_->next();
  if (e && e->what == event::kind::failed) throw failure(std::move(e->why));
  return e;
}

std::string generation::text() {
  std::string all;
  while (const auto e = next()) all += e->text;
  return all;
}

void generation::cancel() { reader_->cancel(); }
std::optional<event> generation::poll() { return reader_->poll(); }
bool generation::ended() const { return reader_->ended(); }
void generation::on_ready(std::function<void()> wake) { reader_->on_ready(std::move(wake)); }
generation::iterator generation::begin() { return iterator(*this); }

}  // namespace troupe
