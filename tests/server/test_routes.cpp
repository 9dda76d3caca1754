// The route table against itself and against docs/openapi.yaml.
#include "support/catch.hpp"

#include <fstream>
#include <set>
#include <string>

#include "server/routes.hpp"

using namespace troupe::server;

namespace {

/// "GET /path" of each operation in the document: two-space paths, four-space methods, as that file is written.
std::set<std::string> documented() {
  std::ifstream file("docs/openapi.yaml");
  std::set<std::string> found;
  std::string line, path;
  bool in_paths = false;
  while (std::getline(file, line)) {
    if (!line.empty() && line[0] != ' ') in_paths = line == "paths:";
    if (!in_paths) continue;
    if (line.starts_with("  /")) path = line.substr(2, line.rfind(':') - 2);
    for (const char* method : {"get", "post", "delete", "put", "patch"}) {
      if (line != "    " + std::string(method) + ":") continue;
      std::string upper(method);
      for (auto& c : upper) c = static_cast<char>(c - 32);
      found.insert(upper + " " + path);
    }
  }
  return found;
}

}  // namespace

TEST_CASE("the document describes exactly the routes there are") {
  std::set<std::string> served;
  for (const auto& route : routes()) served.insert(std::string(route.method) + " " + std::string(route.path));
  CHECK(served == documented());
  CHECK(served.size() == routes().size());
}

TEST_CASE("a path finds its route and its parameter") {
  for (const auto& route : routes()) {
    auto path = std::string(route.path);
    const auto open = path.find('{');
    if (open != path.npos) path.replace(open, path.find('}') - open + 1, "some-name");
    const auto match = match_route(route.method, path);
    CHECK(match.found == &route);
    CHECK(match.parameter == (open == path.npos ? "" : "some-name"));
  }
}

TEST_CASE("no other path is served") {
  for (const char* path : {"//v1/models", "/v1/models/", "/v1/models/a/b", "/v1/generations//events", "/v1/",
                           "/V1/models", "/v1/../health", ""}) {
    INFO(path);
    CHECK(match_route("GET", path).found == nullptr);
    CHECK(match_route("GET", path).allow.empty());
  }
}

TEST_CASE("a known path tells its methods") {
  CHECK(match_route("PUT", "/v1/completions").allow == "POST");
  CHECK(match_route("PUT", "/metrics").allow == "GET, HEAD");
  CHECK(match_route("POST", "/v1/generations/gen-1").allow == "DELETE");
}
