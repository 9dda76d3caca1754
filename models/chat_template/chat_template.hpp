// A model's chat template: messages in, prompt text out, each part marked as the template's or a user's.
// Knows nothing of tokens: the tokenizer reads control tokens only in trusted text.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "models/chat_template/meter.hpp"
#include "models/chat_template/value.hpp"

namespace troupe::models {

using jinja::value;

/// Part of a rendered prompt. Neighbours differ in `trusted`.
struct rendered_span {
  std::string text;
  bool trusted = false;  ///< from the template itself (or a value built with value::trusted), never from a message
};

/// The text of all spans.
std::string joined(std::span<const rendered_span> spans);

/// Immutable once parsed, cheap to copy, safe to render from many threads. Jinja2 as chat templates use it, with
/// trim_blocks, lstrip_blocks and loop controls. Not offered: include, import, extends, call blocks, recursive loops,
/// and methods that change a list or dict (as in Jinja's immutable sandbox); namespaces can change.
class chat_template {
public:
  /// Errors: corrupt_file with the line. Time and memory are linear in the source, which may have 1 MiB.
  static result<chat_template> parse(std::string_view source, std::string name = "chat template");

  /// ChatML, for models whose file has no template.
  static const chat_template& chatml();

  /// `context` is a dict: messages, add_generation_prompt, bos_token, eos_token, tools and so on. Errors:
  /// invalid_argument, with the template's own words when it calls raise_exception, else with the line.
  /// `now` is what strftime_now shows, in UTC.
  result<std::vector<rendered_span>> render(const value& context, std::chrono::system_clock::time_point now,
                                            const template_budget& budget = {}) const;

private:
  struct parsed;
  explicit chat_template(std::shared_ptr<const parsed> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const parsed> tree_;
};

struct chat_message_view {
  std::string_view role;
  std::string_view content;
};

/// A context whose message contents are untrusted; roles are trusted when they are system, user, assistant, tool or
/// developer. `bos` and `eos` come from the model's file and are trusted.
value make_chat_context(std::span<const chat_message_view> messages, bool add_generation_prompt, std::string_view bos,
                        std::string_view eos);

}  // namespace troupe::models
