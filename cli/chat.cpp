// `troupe chat`: a conversation in the terminal. Lines are edited and remembered by libedit.
#include <editline/readline.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <optional>

#include "base/opened_library.hpp"
#include "cli/answer.hpp"
#include "cli/engine.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/signals.hpp"

namespace troupe::cli {
namespace {

std::filesystem::path history_file() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state)
    return std::filesystem::path(state) / "troupe/chat_history";
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : ".") / ".local/state/troupe/chat_history";
}

/// libedit, opened where there is a terminal.
struct edit_functions {
  decltype(&::using_history) begin = nullptr;
  decltype(&::stifle_history) limit = nullptr;
  decltype(&::read_history) recall = nullptr;
  decltype(&::write_history) save = nullptr;
  decltype(&::add_history) remember = nullptr;
  decltype(&::readline) read = nullptr;
};

std::optional<edit_functions> open_edit() {
  const auto library = base::opened_library::open(TROUPE_LIBEDIT);
  edit_functions f;
  if (!library || !library->find("using_history", f.begin, "stifle_history", f.limit, "read_history", f.recall,
                                 "write_history", f.save, "add_history", f.remember, "readline", f.read))
    return std::nullopt;
  return f;
}

/// Lines from the person, with editing and a history that outlives the process. Plain lines where stdin is a pipe, or
/// where there is no libedit.
class line_reader {
public:
  line_reader() : file_(history_file()) {
    if (!edit_) return;
    std::error_code ignored;
    std::filesystem::create_directories(file_.parent_path(), ignored);
    edit_->begin();
    edit_->limit(1000);
    edit_->recall(file_.c_str());
  }
  ~line_reader() {
    if (edit_) edit_->save(file_.c_str());
  }

  std::optional<std::string> next() {
    if (!edit_) {
      if (terminal_) std::cerr << "> " << std::flush;
      std::string line;
      if (!std::getline(std::cin, line)) return std::nullopt;
      return line;
    }
    char* line = edit_->read("> ");
    if (!line) return std::nullopt;
    std::string text = line;
    std::free(line);
    if (!text.empty()) edit_->remember(text.c_str());
    return text;
  }

private:
  bool terminal_ = isatty(0) != 0;
  std::optional<edit_functions> edit_ = terminal_ ? open_edit() : std::nullopt;
  std::filesystem::path file_;
};

/// What Ctrl-C means just now: stop the answer that streams, or say how to leave.
class interrupt {
public:
  void on_signal() {
    const std::scoped_lock lock(mutex_);
    if (answer_) answer_->cancel();
    else std::cerr << "\n(/exit or Ctrl-D leaves)\n> " << std::flush;
  }

  /// While it lives, the signal stops `answer`. Ends before the answer does.
  class scope {
  public:
    scope(interrupt& owner, generation& answer) : owner_(owner) { owner_.set(&answer); }
    ~scope() { owner_.set(nullptr); }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

  private:
    interrupt& owner_;
  };

private:
  void set(generation* answer) {
    const std::scoped_lock lock(mutex_);
    answer_ = answer;
  }

  std::mutex mutex_;
  generation* answer_ = nullptr;
};

void help() {
  std::cerr << "/new       start over\n/system T  set the system prompt and start over\n/exit      leave (or "
               "Ctrl-D)\nCtrl-C     stop the answer\n";
}

class conversation {
public:
  conversation(const troupe::model& model, const answer_options& options, interrupt& stop)
      : model_(model), options_(options), stop_(stop), system_(options.system) {
    start_over();
  }

  /// False: the person wants to leave.
  bool take(const std::string& line) {
    if (line == "/exit" || line == "/quit") return false;
    if (line == "/help") {
      help();
    } else if (line == "/new") {
      start_over();
    } else if (line.starts_with("/system ")) {
      system_ = line.substr(8);
      start_over();
    } else if (!line.empty()) {
      ask(line);
    }
    return true;
  }

private:
  void start_over() {
    messages_.clear();
    if (!system_.empty()) messages_.push_back({"system", system_});
  }

  void ask(const std::string& line) {
    messages_.push_back({"user", line});
    try {
      generation answer = model_.chat(messages_, to_ask(options_));
      const interrupt::scope stoppable(stop_, answer);
      const answered all = stream_answer(answer);
      const bool dim = coloured(2);
      std::cout << std::endl;
      std::cerr << (dim ? "\033[2m" : "") << "[" << all.figures << "]" << (dim ? "\033[0m" : "") << '\n';
      messages_.push_back({"assistant", all.text});
    } catch (const failure& e) {
      messages_.pop_back();
      report(e.why());
    }
  }

  const troupe::model& model_;
  const answer_options& options_;
  interrupt& stop_;
  std::string system_;
  chat_prompt messages_;
};

}  // namespace

int chat(const answer_options& options) {
  const signal_block block;
  auto engine = start_engine(options.engine);
  if (!engine) return report(engine.why());
  std::cerr << "Talking to " << engine->model.card().name << ". /help shows the commands.\n";
  interrupt stop;
  const signal_watch watch(block, [&](int) { stop.on_signal(); });
  conversation talk(engine->model, options, stop);
  line_reader lines;
  while (auto line = lines.next())
    if (!talk.take(*line)) break;
  return 0;
}

}  // namespace troupe::cli
