// Routes that answer at once: models, health, metrics, the page; and the checks before a WebSocket handshake.
#include "server/error_table.hpp"
#include "server/exchange.hpp"
#include "server/handlers.hpp"
#include "server/openai_json.hpp"
#include "server/page_assets.hpp"
#include "server/pending_reply.hpp"
#include "server/server_state.hpp"

namespace troupe::server {

reply error_reply(int status, const error& why) {
  reply refused{.status = status, .body = error_body(why)};
  if (status == 429 || status == 503) refused.fields.emplace_back("Retry-After", "1");
  return refused;
}

void answer_error(exchange& to, const error& why) { to.answer(error_reply(row_of(why.code).status, why)); }

void list_models(const std::shared_ptr<exchange>& e) { e->answer({.body = model_list(e->server().engine.models())}); }

void show_model(const std::shared_ptr<exchange>& e) {
  for (const auto& card : e->server().engine.models())
    if (card.name == e->parameter()) return e->answer({.body = model_object(card)});
  answer_error(*e, {errc::not_found, "There is no model of that name here.", "model"});
}

void show_health(const std::shared_ptr<exchange>& e) {
  auto& server = e->server();
  if (server.draining) return answer_error(*e, {errc::shutting_down, "The server is ending.", {}});
  auto reply_later = std::make_shared<pending_reply>(e);
  e->attach(reply_later);
  e->after(server.options.timeouts.health, [reply_later, limit = server.options.timeouts.health] {
    reply_later->give([limit](exchange& to) {
      to.answer({.status = 503,
                 .body = error_body({errc::deadline_exceeded,
                                     "The engine did not answer within " + std::to_string(limit.count()) + " ms.",
                                     {}})});
    });
  });
  server.engine.check_health([reply_later](result<void> healthy) {
    reply_later->give([healthy](exchange& to) {
      if (healthy) return to.answer({.body = "{\"status\":\"ok\"}"});
      to.answer({.status = 503, .body = error_body(healthy.why())});
    });
  });
}

void show_metrics(const std::shared_ptr<exchange>& e) {
  auto& server = e->server();
  e->answer({.content_type = "text/plain; version=0.0.4; charset=utf-8",
             .body = server.engine.metrics_text() + server.metrics.text()});
}

void show_page(const std::shared_ptr<exchange>& e) {
  const auto name = e->parameter().empty() ? std::string_view("index.html") : e->parameter();
  for (const auto& asset : page_assets()) {
    if (asset.name != name) continue;
    reply page{.content_type = asset.content_type};
    page.fields = {{"ETag", std::string(asset.etag)},
                   {"Cache-Control", "no-cache"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                    "base-uri 'none'; "
                    "form-action 'self'; frame-ancestors 'none'"}};
    if (e->head().lists("if-none-match", asset.etag)) page.status = 304;
    else page.body = asset.bytes;
    return e->answer(std::move(page));
  }
  answer_error(*e, {errc::not_found, "Nothing is served at this path.", {}});
}

namespace {

/// RFC 6455, 4.2.1: 22 letters of base64 and two of padding.
bool is_websocket_key(std::string_view key) {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  return key.size() == 24 && key.ends_with("==") && key.find_first_not_of(letters) == 22;
}

}  // namespace

void open_websocket(const std::shared_ptr<exchange>& e) {
  const auto& head = e->head();
  const auto refuse = [&](int status, std::string text) {
    reply no{.status = status, .body = error_body({errc::invalid_argument, std::move(text), {}})};
    if (status == 426) no.fields = {{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}};
    e->answer(std::move(no));
  };
  if (!head.lists("upgrade", "websocket") || !head.lists("connection", "upgrade") || head.version != 11 ||
      head.method != "GET")
    return refuse(426, "This path speaks WebSocket only: GET with Upgrade over HTTP/1.1.");
  if (head.field("sec-websocket-version") != "13") return refuse(426, "The WebSocket version must be 13.");
  if (head.count("sec-websocket-key") != 1) return refuse(400, "Sec-WebSocket-Key is missing.");
  if (!is_websocket_key(head.field("sec-websocket-key")))
    return refuse(400, "Sec-WebSocket-Key must be 16 bytes in base64.");
  if (!head.lists("sec-websocket-protocol", "troupe.v1")) return refuse(400, "Offer the subprotocol troupe.v1.");
  if (e->server().draining) return answer_error(*e, {errc::shutting_down, "The server is ending.", {}});
  e->upgrade();
}

}  // namespace troupe::server
