// One deadline at a time; a new one replaces it. Knows nothing of what is late.
#pragma once

#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <utility>

namespace troupe::server {

/// Used on one strand. The handler keeps its owner alive, and with it this.
class deadline {
public:
  template <class Executor>
  explicit deadline(const Executor& executor) : timer_(executor) {}

  template <class Late>
  void arm(std::chrono::milliseconds limit, Late late) {
    timer_.expires_after(limit);
    timer_.async_wait([this, number = ++number_, late = std::move(late)](boost::system::error_code stopped) {
      if (!stopped && number == number_) late();
    });
  }

  void disarm() {
    ++number_;  // one that has fired already may still wait in the strand
    timer_.cancel();
  }

private:
  boost::asio::steady_timer timer_;
  std::uint64_t number_ = 0;
};

}  // namespace troupe::server
