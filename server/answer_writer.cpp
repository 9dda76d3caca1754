// Writes, whole or in parts.
#include "server/answer_writer.hpp"

#include <boost/asio/buffer.hpp>

#include <utility>

#include "server/guard.hpp"

namespace troupe::server {

using boost::system::error_code;

void answer_writer::begin() noexcept {
  out_.clear();
  out_events_ = 0;
}

bool answer_writer::write_at_once() {
  error_code failed;
  if (writing_ || (!socket_.non_blocking() && socket_.non_blocking(true, failed))) return false;
  const std::size_t size = socket_.write_some(boost::asio::buffer(out_), failed);
  if (failed) return false;  // no room, or an error that write() will meet again
  metrics_.bytes_sent += size;
  out_.erase(0, size);
  if (!out_.empty()) return false;
  owner_.written(std::exchange(out_events_, 0));
  return true;
}

void answer_writer::write() {
  if (writing_ || out_.empty()) return;
  writing_ = true;
  in_flight_.swap(out_);
  out_.clear();
  in_flight_events_ = std::exchange(out_events_, 0);
  sent_ = 0;
  write_some();
}

void answer_writer::write_some() {
  owner_.write_begins();
  socket_.async_write_some(boost::asio::buffer(in_flight_) + sent_,
                           [this, held = owner_.hold()](error_code failed, std::size_t size) {
                             metrics_.bytes_sent += size;
                             if (stopped_) return;
                             guard(owner_, [&] {
                               if (failed) return owner_.write_failed();
                               sent_ += size;
                               if (sent_ < in_flight_.size()) return write_some();
                               on_written();
                             });
                           });
}

void answer_writer::on_written() {
  writing_ = false;
  owner_.written(in_flight_events_);
  write();
  if (!writing_) owner_.all_written();
}

}  // namespace troupe::server
