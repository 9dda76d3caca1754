// Rounds of runs, and ratios.
#include "cli/bench_peer.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <sstream>

#include "base/json_writer.hpp"
#include "cli/bench_rows.hpp"
#include "cli/peer_output.hpp"
#include "cli/report.hpp"

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

/// A program that is measured, and what it has shown so far of the workload at hand. The first is Troupe itself.
struct program {
  std::string name;
  fs::path path;
  std::vector<std::string> args, batch_args;
  std::vector<double> speeds, shares;  ///< one a round
  bool out_of_row = false;             ///< failed in this row
  bool out_of_all = false;             ///< is not there, or hangs
};

/// "ik=-rtr 1" is {"ik", "-rtr 1"}; a '=' after a slash, a space or nothing belongs to the value.
std::pair<std::string, std::string> split_name(const std::string& text) {
  const auto equals = text.find_first_of("=/ ");
  if (equals == text.npos || equals == 0 || text[equals] != '=') return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> all;
  for (std::string word; in >> word;) all.push_back(word);
  return all;
}

result<void> give_args(std::vector<program>& programs, const std::vector<std::string>& given,
                       std::vector<std::string> program::* to) {
  for (const std::string& text : given) {
    const auto [name, args] = split_name(text);
    bool taken = false;
    for (std::size_t i = 1; i < programs.size(); ++i) {
      if (!name.empty() && programs[i].name != name) continue;
      for (const std::string& word : words(args)) (programs[i].*to).push_back(word);
      taken = true;
    }
    if (!taken) return error{errc::invalid_argument, "no --peer is named \"" + name + "\"", {}};
  }
  return {};
}

result<std::vector<program>> programs_of(const bench_options& o) {
  std::error_code failed;
  std::vector<program> all{{"troupe", fs::read_symlink("/proc/self/exe", failed), {}, {}, {}, {}}};
  if (failed) return error{errc::io, "/proc/self/exe: " + failed.message(), {}};
  for (const std::string& peer : o.peers) {
    auto [name, path] = split_name(peer);
    if (name.empty()) name = fs::path(path).filename().string();
    if (std::any_of(all.begin(), all.end(), [&](const program& p) { return p.name == name; }))
      return error{
          errc::invalid_argument, "two programs are named \"" + name + "\": tell them apart with --peer NAME=PATH", {}};
    all.push_back({name, fs::absolute(path), {}, {}, {}, {}});
  }
  if (auto done = give_args(all, o.peer_args, &program::args); !done) return done.why();
  if (auto done = give_args(all, o.peer_batch_args, &program::batch_args); !done) return done.why();
  return all;
}

std::vector<std::string> own_arguments(const bench_options& o, const bench_test& t, const std::string& exe,
                                       const std::string& model) {
  std::vector<std::string> args{exe, "bench", "--json", "-m", model};
  const auto add = [&](const char* flag, std::int32_t value) {
    args.insert(args.end(), {flag, std::to_string(value)});
  };
  add("-p", t.prompt), add("-n", t.generate), add("-d", t.depth), add("-t", t.threads), add("-b", t.batch),
      add("-r", o.repeat);
  if (!o.engine.isa.empty()) args.insert(args.end(), {"--isa", o.engine.isa});
  if (!o.engine.kv_type.empty()) args.insert(args.end(), {"--kv-type", o.engine.kv_type});
  return args;
}

std::vector<std::string> llama_bench_arguments(const bench_options& o, const bench_test& t, const program& p,
                                               const std::string& model) {
  std::vector<std::string> args{p.path.string(), "-o", "json", "-m", model};
  const auto add = [&](const char* flag, std::int32_t value) {
    args.insert(args.end(), {flag, std::to_string(value)});
  };
  add("-p", t.prompt), add("-n", t.generate), add("-t", t.threads), add("-r", o.repeat);
  if (t.depth > 0) add("-d", t.depth);  // not every llama-bench knows it
  args.insert(args.end(), p.args.begin(), p.args.end());
  return args;
}

/// It has no depth and takes no prompt of nothing: the tokens before are a prompt, of one token at least.
std::vector<std::string> batched_bench_arguments(const bench_test& t, const program& p, const std::string& model) {
  std::vector<std::string> args{(p.path.parent_path() / "llama-batched-bench").string(), "-m", model};
  const auto add = [&](const char* flag, std::int32_t value) {
    args.insert(args.end(), {flag, std::to_string(value)});
  };
  const std::int32_t prompt = std::max(t.depth, 1);
  const std::int32_t each = (prompt + t.generate + 255) / 256 * 256;  // contexts are dealt in this size
  add("-npp", prompt), add("-ntg", t.generate), add("-npl", t.batch), add("-t", t.threads), add("-c", t.batch * each);
  args.insert(args.end(), p.batch_args.begin(), p.batch_args.end());
  return args;
}

class comparison {
public:
  comparison(const bench_options& o, std::string model, std::vector<program> programs)
      : options_(o), model_(std::move(model)), programs_(std::move(programs)) {}

  /// False where our own run failed, after the message.
  bool row(const bench_test& test) {
    for (program& p : programs_) {
      p.speeds.clear();
      p.shares.clear();
      p.out_of_row = p.out_of_all;
    }
    for (std::int32_t round = 0; round < options_.pairs; ++round)
      for (std::size_t i = 0; i < programs_.size(); ++i)
        run(programs_[round % 2 == 0 ? i : programs_.size() - 1 - i], test);
    if (programs_.front().out_of_row) return false;
    print(test);
    return true;
  }
  bool any_failed() const noexcept { return failed_; }

private:
  void run(program& p, const bench_test& test) {
    if (p.out_of_row) return;
    auto found = measure(p, test);
    if (found) {
      p.speeds.push_back(found->tokens_per_s);
      p.shares.push_back(found->share_of_limit);
      return;
    }
    const errc why = found.why().code;
    report({why,
            p.name + ", " + test.name() + (test.batch > 1 ? " x" + std::to_string(test.batch) : "") + ": " +
                found.why().text,
            ""});
    failed_ = p.out_of_row = true;
    p.out_of_all = test.batch == 1 && (why == errc::not_found || why == errc::deadline_exceeded);
  }

  result<measured> measure(const program& p, const bench_test& test) const {
    const bool own = &p == &programs_.front(), batched = !own && test.batch > 1;
    const auto limit = own ? std::chrono::hours(24) : std::chrono::seconds(options_.peer_seconds);
    child_command command{{}, fs::temp_directory_path(), limit};  // one peer leaves a log where it runs
    command.arguments = own       ? own_arguments(options_, test, p.path.string(), model_)
                        : batched ? batched_bench_arguments(test, p, model_)
                                  : llama_bench_arguments(options_, test, p, model_);
    auto output = run_child(command);
    if (!output) return output.why();
    return own       ? read_troupe_bench(*output, test)
           : batched ? read_batched_bench(*output, test)
                     : read_llama_bench(*output, test);
  }

  /// Ours over theirs, round by round.
  spread ratios(const program& p) const {
    std::vector<double> all;
    for (std::size_t i = 0; i < p.speeds.size(); ++i) all.push_back(programs_.front().speeds[i] / p.speeds[i]);
    return spread(std::move(all));
  }

  void print(const bench_test& test) {
    const spread ours(programs_.front().speeds);
    if (!options_.json && !headed_)
      std::printf("%-16s %5s %7s  %-14s %10s %19s %6s  %s\n", "test", "batch", "threads", "program", "tokens/s",
                  "min - max", "share", "troupe to it (min - max)");
    headed_ = true;
    for (const program& p : programs_) {
      if (p.out_of_row) continue;
      const spread theirs(p.speeds);
      const bool own = &p == &programs_.front();
      const double ratio = ours.median() / theirs.median();
      const spread each = ratios(p);
      if (options_.json) {
        print_json(test, p, own, ratio, each);
        continue;
      }
      std::printf("%-16s %5d %7d  %-14s %10.1f %9.1f -%8.1f", test.name().c_str(), test.batch, test.threads,
                  p.name.c_str(), theirs.median(), theirs.least(), theirs.most());
      if (own) std::printf(" %6.2f\n", spread(p.shares).median());
      else std::printf(" %6s  %.2f (%.2f - %.2f)\n", "", ratio, each.least(), each.most());
    }
    std::fflush(stdout);
  }

  void print_json(const bench_test& test, const program& p, bool own, double ratio, const spread& each) const {
    const spread speeds(p.speeds);
    std::string line;
    base::json_writer out(line);
    out.begin_object()
        .field("test", test.name())
        .field("model", options_.engine.model)
        .field("batch", test.batch)
        .field("threads", test.threads)
        .field("program", p.name)
        .field("tokens_per_s", speeds.median())
        .field("tokens_per_s_min", speeds.least())
        .field("tokens_per_s_max", speeds.most())
        .field("pairs", speeds.values.size());
    if (own) out.field("share_of_limit", spread(p.shares).median());
    else out.field("ratio", ratio).field("ratio_min", each.least()).field("ratio_max", each.most());
    out.end_object();
    std::cout << line << std::endl;
  }

  const bench_options& options_;
  std::string model_;
  std::vector<program> programs_;
  bool headed_ = false, failed_ = false;
};

}  // namespace

int bench_against_peers(const bench_options& options, const std::string& model_path,
                        const std::vector<std::int32_t>& threads) {
  auto programs = programs_of(options);
  if (!programs) return report(programs.why());
  comparison all(options, fs::absolute(model_path).string(), std::move(*programs));
  for (const std::int32_t team : threads)
    for (const bench_test& test : tests_of(options, team))
      if (!all.row(test)) return 1;
  return all.any_failed() ? 1 : 0;
}

}  // namespace troupe::cli
