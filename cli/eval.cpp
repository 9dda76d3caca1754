// `troupe eval`: the engine's arithmetic on given tokens, in the shape of the reference files in tests/reference.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/json_writer.hpp"
#include "cli/engine.hpp"
#include "cli/json_lines.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "kernels/any_lane.hpp"
#include "models/catalogue/model_cache.hpp"
#include "models/evaluate.hpp"
#include "models/tokenizer/tokenizer.hpp"

namespace troupe::cli {
namespace {

struct rig {
  std::unique_ptr<kernels::lane> lane;
  std::shared_ptr<const models::loaded_model> model;
  std::unique_ptr<models::evaluator> evaluator;
};

result<rig> make_rig(const eval_options& o) {
  const auto path = models::model_cache().resolve(o.engine.model);
  if (!path) return path.why();
  rig r;
  auto chosen =
      kernels::make_lane(o.engine.device, {o.engine.threads, o.engine.isa, !o.engine.no_repack, o.engine.kv_type,
                                           copies_of(o.engine), o.engine.weight_type, o.engine.deterministic});
  if (!chosen) return chosen.why();
  r.lane = std::move(chosen->lane);
  auto model = models::load_model(path->string(), *r.lane);
  if (!model) return model.why();
  r.model = std::move(*model);
  const std::int32_t capacity = o.mode == "perplexity" ? o.window : r.model->shape().context;
  auto evaluator = models::evaluator::create(r.model, *r.lane, std::min(capacity, r.model->shape().context));
  if (!evaluator) return evaluator.why();
  r.evaluator = std::make_unique<models::evaluator>(std::move(*evaluator));
  return r;
}

double rounded(double value, double digits) { return std::round(value * digits) / digits; }

void write_ids(base::json_writer& out, std::string_view name, const std::vector<std::int32_t>& ids) {
  out.key(name).begin_array();
  for (const std::int32_t id : ids) out.value(id);
  out.end_array();
}

result<std::string> score_line(rig& r, const std::vector<std::int32_t>& ids, std::int32_t best) {
  auto scored = r.evaluator->score(ids, best);
  if (!scored) return scored.why();
  std::string line;
  base::json_writer out(line);
  out.begin_object();
  write_ids(out, "ids", ids);
  out.key("nll");
  scored->nll ? out.value(rounded(*scored->nll, 1e5)) : out.null();
  out.key("top").begin_array();
  for (const auto& position : scored->top) {
    out.begin_array();
    for (const auto& [id, logprob] : position) out.begin_array().value(id).value(rounded(logprob, 1e4)).end_array();
    out.end_array();
  }
  out.end_array().end_object();
  return line;
}

result<std::string> greedy_line(rig& r, const std::vector<std::int32_t>& ids, std::int32_t count) {
  auto more = r.evaluator->continue_greedily(ids, count);
  if (!more) return more.why();
  std::string line;
  base::json_writer out(line);
  out.begin_object();
  write_ids(out, "ids", ids);
  write_ids(out, "greedy", more->greedy);
  out.key("margin").begin_array();
  for (const float margin : more->margin) out.value(rounded(margin, 1e4));
  out.end_array().end_object();
  return line;
}

int eval_lines(rig& r, const eval_options& o) {
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    auto ids = read_ids(line);
    if (!ids) return report(ids.why());
    auto answer = o.mode == "logits" ? score_line(r, *ids, o.best) : greedy_line(r, *ids, o.greedy);
    if (!answer) return report(answer.why());
    std::cout << *answer << std::endl;
  }
  return 0;
}

int eval_perplexity(rig& r, const eval_options& o) {
  std::ifstream in(o.file, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  if (!r.model->tokenizer)
    return report({errc::unsupported, "this model has no vocabulary, so text cannot be scored", ""});
  auto ids = r.model->tokenizer->encode(text, false);
  if (!ids) return report(ids.why());
  const auto& words = *r.model->tokenizer;
  auto score = o.halves
                   ? r.evaluator->perplexity_of_halves(*ids, o.window, words.add_bos() ? words.bos() : std::nullopt)
                   : r.evaluator->perplexity(*ids, o.window, o.window / 2);
  if (!score) return report(score.why());
  std::string line;
  base::json_writer(line)
      .begin_object()
      .field("perplexity", score->perplexity)
      .field("nll", score->nll)
      .field("tokens", score->tokens)
      .field("window", o.window)
      .end_object();
  std::cout << line << '\n';
  return 0;
}

}  // namespace

int eval(const eval_options& options) {
  auto made = make_rig(options);
  if (!made) return report(made.why());
  return options.mode == "perplexity" ? eval_perplexity(*made, options) : eval_lines(*made, options);
}

}  // namespace troupe::cli
