// Where parsing and rendering start, and where their one exception becomes a result.
#include "models/chat_template/chat_template.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>

#include "models/chat_template/parser.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models {
namespace {

constexpr std::size_t longest_source = 1u << 20;

constexpr std::string_view chatml_source =
    "{% for message in messages %}"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Runs `work`, which may throw template_failure or run out of memory.
template <class T, class Work>
result<T> contained(const std::string& name, Work work) {
  try {
    return work();
  } catch (jinja::template_failure& failed) {
    if (failed.why.text.starts_with("line ")) failed.why.text = name + ", " + failed.why.text;
    return std::move(failed.why);
  } catch (const std::bad_alloc&) {
    return error{errc::out_of_memory, name + ": not enough memory", {}};
  } catch (const std::length_error&) {
    return error{errc::out_of_memory, name + ": a value is too large", {}};
  }
}

}  // namespace

struct chat_template::parsed {
  std::string name;
  jinja::statements body;
};

std::string joined(std::span<const rendered_span> spans) {
  std::string whole;
  for (const rendered_span& one : spans) whole += one.text;
  return whole;
}

result<chat_template> chat_template::parse(std::string_view source, std::string name) {
  if (source.size() > longest_source) return error{errc::corrupt_file, name + " is longer than 1 MiB", {}};
  return contained<chat_template>(name, [&] {
    auto tree = std::make_shared<parsed>();
    tree->name = name;
    tree->body = jinja::parser(jinja::tokenize(std::string(source))).parse_template();
    return chat_template(std::move(tree));
  });
}

const chat_template& chat_template::chatml() {
  static const chat_template built_in = parse(chatml_source, "the ChatML template").value_or_throw();
  return built_in;
}

result<std::vector<rendered_span>> chat_template::render(const value& context,
                                                         std::chrono::system_clock::time_point now,
                                                         const template_budget& budget) const {
  if (!context.map()) return error{errc::invalid_argument, tree_->name + ": the context is not a dict", {}};
  if (context.height() > jinja::renderer::max_value_height)
    return error{errc::invalid_argument, "messages nest too deeply", "messages"};
  return contained<std::vector<rendered_span>>(tree_->name, [&] {
    jinja::renderer run(*context.map(), now, budget);
    std::vector<rendered_span> spans;
    run.render(tree_->body).for_each_run([&](std::string_view bytes, bool trusted) {
      spans.push_back({std::string(bytes), trusted});
    });
    return spans;
  });
}

value make_chat_context(std::span<const chat_message_view> messages, bool add_generation_prompt, std::string_view bos,
                        std::string_view eos) {
  constexpr std::string_view known_roles[] = {"system", "user", "assistant", "tool", "developer"};
  std::vector<value> list;
  for (const chat_message_view& message : messages) {
    const bool known = std::find(std::begin(known_roles), std::end(known_roles), message.role) != std::end(known_roles);
    list.push_back(value::dict({{value::trusted("role"), value::string(jinja::text(std::string(message.role), known))},
                                {value::trusted("content"), value::untrusted(std::string(message.content))}}));
  }
  return value::dict({{value::trusted("messages"), value::list(std::move(list))},
                      {value::trusted("add_generation_prompt"), value::boolean(add_generation_prompt)},
                      {value::trusted("bos_token"), value::trusted(std::string(bos))},
                      {value::trusted("eos_token"), value::trusted(std::string(eos))}});
}

}  // namespace troupe::models
