// Prometheus text of the server's own figures.
#include "server/server_metrics.hpp"

namespace troupe::server {
namespace {

void write_family(std::string& out, const char* name, const char* type, const char* what) {
  out.append("# HELP ")
      .append(name)
      .append(" ")
      .append(what)
      .append("\n# TYPE ")
      .append(name)
      .append(" ")
      .append(type)
      .append("\n");
}

template <class Number>
void write_single(std::string& out, const char* name, const char* type, const char* what, Number value) {
  write_family(out, name, type, what);
  out.append(name).append(" ").append(std::to_string(value)).append("\n");
}

}  // namespace

void server_metrics::count_request(std::string_view route, int status) {
  const std::scoped_lock lock(guard_);
  ++requests_[{std::string(route), status}];
}

std::string server_metrics::text() const {
  std::string out;
  write_single(out, "troupe_http_connections", "gauge", "Open connections.", open_connections.load());
  write_single(out, "troupe_http_connections_total", "counter", "Connections accepted.", connections.load());
  write_single(out, "troupe_websockets", "gauge", "Open WebSockets.", open_websockets.load());
  write_single(out, "troupe_http_received_bytes_total", "counter", "Bytes read from clients.", bytes_received.load());
  write_single(out, "troupe_http_sent_bytes_total", "counter", "Bytes written to clients.", bytes_sent.load());
  write_single(out, "troupe_http_faults_total", "counter", "Exceptions caught in a connection.", faults.load());
  write_family(out, "troupe_http_requests_total", "counter", "Requests answered.");
  const std::scoped_lock lock(guard_);
  for (const auto& [key, count] : requests_)
    out.append("troupe_http_requests_total{route=\"")
        .append(key.first)
        .append("\",status=\"")
        .append(std::to_string(key.second))
        .append("\"} ")
        .append(std::to_string(count))
        .append("\n");
  return out;
}

}  // namespace troupe::server
