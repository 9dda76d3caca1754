// Calendar arithmetic from <chrono>; names are spelled out here so that no locale can change a prompt.
#include "models/chat_template/date_text.hpp"

#include <array>

namespace troupe::models::jinja {
namespace {

constexpr std::array<std::string_view, 7> days = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                  "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> months = {"January",   "February", "March",    "April",
                                                     "May",       "June",     "July",     "August",
                                                     "September", "October",  "November", "December"};

std::string digits(long long number, std::size_t width, char fill) {
  std::string made = std::to_string(number);
  return made.size() < width ? std::string(width - made.size(), fill) + made : made;
}

class calendar {
public:
  explicit calendar(std::chrono::system_clock::time_point when)
      : day_(std::chrono::floor<std::chrono::days>(when)), date_(day_),
        time_(std::chrono::floor<std::chrono::seconds>(when - day_)) {}

  std::string directive(char which, bool bare) const {
    const auto number = [bare](long long n, std::size_t width, char fill = '0') {
      return digits(n, bare ? 1 : width, fill);
    };
    const auto hour = time_.hours().count();
    const auto month = static_cast<unsigned>(date_.month());
    switch (which) {
      case 'a': return std::string(weekday().substr(0, 3));
      case 'A': return std::string(weekday());
      case 'b':
      case 'h': return std::string(months[month - 1].substr(0, 3));
      case 'B': return std::string(months[month - 1]);
      case 'd': return number(static_cast<unsigned>(date_.day()), 2);
      case 'e': return number(static_cast<unsigned>(date_.day()), 2, ' ');
      case 'm': return number(month, 2);
      case 'y': return number(year() % 100, 2);
      case 'Y': return number(year(), 1);
      case 'j': return number((day_ - std::chrono::sys_days(date_.year() / 1 / 1)).count() + 1, 3);
      case 'H': return number(hour, 2);
      case 'I': return number(hour % 12 == 0 ? 12 : hour % 12, 2);
      case 'p': return hour < 12 ? "AM" : "PM";
      case 'M': return number(time_.minutes().count(), 2);
      case 'S': return number(time_.seconds().count(), 2);
      case 'F': return directive('Y', false) + "-" + directive('m', false) + "-" + directive('d', false);
      case 'T': return directive('H', false) + ":" + directive('M', false) + ":" + directive('S', false);
      case 'Z': return "";
      case '%': return "%";
      default: return std::string(bare ? "%-" : "%") + which;
    }
  }

private:
  int year() const { return static_cast<int>(date_.year()); }
  std::string_view weekday() const { return days[std::chrono::weekday(day_).c_encoding()]; }

  std::chrono::sys_days day_;
  std::chrono::year_month_day date_;
  std::chrono::hh_mm_ss<std::chrono::seconds> time_;
};

}  // namespace

std::string format_date(std::string_view pattern, std::chrono::system_clock::time_point when) {
  const calendar moment(when);
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 >= pattern.size()) {
      out += pattern[i];
      continue;
    }
    const bool bare = pattern[i + 1] == '-' && i + 2 < pattern.size();
    i += bare ? 2 : 1;
    out += moment.directive(pattern[i], bare);
  }
  return out;
}

}  // namespace troupe::models::jinja
