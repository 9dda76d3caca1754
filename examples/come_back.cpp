// A front end of one's own: the runtime as a service. A watcher reads the beginning of an answer and leaves; the answer
// goes on, and another watcher reads the rest of it from the same place.
//   come_back [model]
#include <future>
#include <iostream>
#include <memory>
#include <string>

#include <troupe/troupe.hpp>

namespace {

/// Called on the runtime's threads: only passes on. A front end over sockets posts to the connection's thread here.
class watcher final : public troupe::event_sink {
public:
  /// Reads this many events, which is all that it has credit for, or to the end.
  explicit watcher(int events) : left_(events) {}

  void on_event(const troupe::event& e) override {
    text_ += e.text;
    const bool last = e.what == troupe::event::kind::done || e.what == troupe::event::kind::failed;
    if (--left_ == 0 || last) read_.set_value({text_, e.next_offset, e.why.text});
  }

  struct reading {
    std::string text;
    std::uint64_t next_offset = 0;
    std::string failure;
  };
  reading wait() { return read_.get_future().get(); }

private:
  int left_;
  std::string text_;
  std::promise<reading> read_;
};

}  // namespace

int main(int argc, char** argv) try {
  troupe::runtime runtime;
  runtime.load(argc > 1 ? argv[1] : "smollm2-135m-instruct");
  troupe::service& service = runtime.as_service();

  troupe::request question;
  question.prompt = troupe::chat_prompt{{"user", "Name three rivers."}};
  question.max_tokens = 60;

  const auto first = std::make_shared<watcher>(5);
  const bool keep = true;  // it shall live on with nobody watching
  const auto opened = service.submit("", question, first, 5, keep);
  if (!opened) throw troupe::failure(opened.why());
  const auto begun = first->wait();
  service.unsubscribe(opened->generation, opened->subscription);
  std::cout << begun.text << "\n... at offset " << begun.next_offset << " ...\n";

  const auto second = std::make_shared<watcher>(-1);
  service.subscribe(opened->generation, begun.next_offset, second, 1'000'000);
  const auto rest = second->wait();
  if (!rest.failure.empty()) throw troupe::failure({troupe::errc::internal, rest.failure, {}});
  std::cout << rest.text << "\nended at offset " << rest.next_offset << '\n';
} catch (const troupe::failure& f) {
  std::cerr << "come_back: " << f.what() << '\n';
  return 1;
}
