// `troupe models` and `troupe pull`: what there is, and how it gets here.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>

#include "cli/options.hpp"
#include "cli/report.hpp"
#include "models/catalogue/catalogue.hpp"
#include "models/catalogue/model_cache.hpp"
#include "models/catalogue/pull.hpp"

namespace troupe::cli {
namespace {

const char* stage_name(models::pull_stage stage) {
  switch (stage) {
    case models::pull_stage::finding: return "Finding";
    case models::pull_stage::downloading: return "Downloading";
    case models::pull_stage::unpacking: return "Unpacking";
    case models::pull_stage::verifying: return "Verifying";
  }
  return "";
}

/// A bar that is redrawn on a terminal; elsewhere one line a stage.
class progress_bar {
public:
  void show(const models::pull_progress& p) {
    if (!terminal_) {
      if (!started_ || p.stage != stage_) std::fprintf(stderr, "%s\n", stage_name(p.stage));
    } else {
      draw(p);
    }
    stage_ = p.stage;
    started_ = true;
  }
  void end() const {
    if (terminal_ && started_) std::fprintf(stderr, "\r\033[K");
  }

private:
  static void draw(const models::pull_progress& p) {
    constexpr int width = 30;
    std::string line = stage_name(p.stage);
    line.resize(12, ' ');
    if (p.total > 0) {
      const int done = static_cast<int>(std::min(p.bytes, p.total) * width / p.total);
      char figures[96];
      std::snprintf(figures, sizeof figures, " %3d%%  %.1f of %.1f MB",
                    static_cast<int>(std::min(p.bytes, p.total) * 100 / p.total), static_cast<double>(p.bytes) / 1e6,
                    static_cast<double>(p.total) / 1e6);
      line += "[" + std::string(static_cast<std::size_t>(done), '#') +
              std::string(static_cast<std::size_t>(width - done), '.') + "]" + figures;
    }
    if (p.bytes_per_second > 0) {
      char rate[32];
      std::snprintf(rate, sizeof rate, "  %.1f MB/s", p.bytes_per_second / 1e6);
      line += rate;
    }
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
  }

  bool terminal_ = isatty(2) != 0;
  bool started_ = false;
  models::pull_stage stage_ = models::pull_stage::finding;
};

}  // namespace

int models() {
  const models::model_cache cache;
  const auto cached = cache.list();
  const auto is_cached = [&](std::string_view name) {
    return std::any_of(cached.begin(), cached.end(), [&](const auto& model) { return model.name == name; });
  };
  std::printf("%-28s %10s  %-12s %-12s %s\n", "NAME", "SIZE", "LICENCE", "STATE", "DESCRIPTION");
  for (const auto& entry : models::catalogue())
    std::printf("%-28s %7.0f MB  %-12s %-12s %s\n", std::string(entry.name).c_str(),
                static_cast<double>(entry.bytes) / 1e6, std::string(entry.licence).c_str(),
                is_cached(entry.name) ? "cached" : "not pulled", std::string(entry.description).c_str());
  for (const auto& model : cached)
    if (!models::find_in_catalogue(model.name))
      std::printf("%-28s %7.0f MB  %-12s %-12s\n", model.name.c_str(), static_cast<double>(model.bytes) / 1e6, "-",
                  "cached");
  std::printf("\nCache: %s. Fetch one with: troupe pull NAME\n", cache.directory().c_str());
  return 0;
}

int pull(const pull_options& options) {
  progress_bar bar;
  models::pull_hooks hooks;
  hooks.on_progress = [&](const models::pull_progress& p) { bar.show(p); };
  const auto path = models::pull(models::model_cache(), options.what, options.sha256, hooks);
  bar.end();
  if (!path) return report(path.why());
  std::cout << path->string() << '\n';
  return 0;
}

}  // namespace troupe::cli
