// What each route runs. A handler answers at once, or attaches a running_answer and returns.
#pragma once

#include <memory>

namespace troupe::server {

class exchange;

void complete_chat(const std::shared_ptr<exchange>& e);
void complete_text(const std::shared_ptr<exchange>& e);
void list_models(const std::shared_ptr<exchange>& e);
void show_model(const std::shared_ptr<exchange>& e);
void open_websocket(const std::shared_ptr<exchange>& e);
void open_generation(const std::shared_ptr<exchange>& e);
void watch_generation(const std::shared_ptr<exchange>& e);
void cancel_generation(const std::shared_ptr<exchange>& e);
void show_health(const std::shared_ptr<exchange>& e);
void show_metrics(const std::shared_ptr<exchange>& e);
void show_page(const std::shared_ptr<exchange>& e);

}  // namespace troupe::server
