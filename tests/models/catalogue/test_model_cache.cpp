// model_cache and the catalogue: names, paths, and what a user is told where there is nothing.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "models/catalogue/catalogue.hpp"
#include "models/catalogue/model_cache.hpp"
#include "models/catalogue/python_package.hpp"
#include "support/catch.hpp"
#include "support/scratch_directory.hpp"

namespace {

namespace fs = std::filesystem;
using namespace troupe::models;
using troupe::errc;

using scratch = troupe::test::scratch_directory;

}  // namespace

TEST_CASE("the cache is where the XDG specification says") {
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before != nullptr ? before : "";
  setenv("XDG_CACHE_HOME", "/some/where", 1);
  CHECK(model_cache().directory() == "/some/where/troupe/models");
  setenv("XDG_CACHE_HOME", "relative", 1);
  CHECK(model_cache().directory().is_absolute());
  CHECK(model_cache().directory().string().ends_with("/.cache/troupe/models"));
  before != nullptr ? setenv("XDG_CACHE_HOME", kept.c_str(), 1) : unsetenv("XDG_CACHE_HOME");
}

TEST_CASE("a name, a path and a file of the same name are told apart") {
  scratch dir;
  const model_cache cache(dir.path);
  std::ofstream(dir.path / "known.gguf") << "x";
  CHECK(*cache.resolve("known") == dir.path / "known.gguf");
  CHECK(*cache.resolve((dir.path / "known.gguf").string()) == dir.path / "known.gguf");
  CHECK(cache.resolve("other.gguf").why().code == errc::not_found);
  CHECK(cache.resolve(dir.path.string()).why().text.find("is a directory") != std::string::npos);
  CHECK_FALSE(cache.resolve("").ok());
  CHECK_FALSE(cache.resolve("..").ok());
}

TEST_CASE("what is missing is named with the command that helps") {
  scratch dir;
  const model_cache cache(dir.path / "none");
  CHECK(cache.resolve(default_model).why().text.find("run `troupe pull smollm2-135m-instruct`") != std::string::npos);
  CHECK(cache.resolve("gpt-9").why().text.find("troupe models") != std::string::npos);
  CHECK(cache.list().empty());
  // A file here whose name is no path: a name is looked for in the cache alone.
  const fs::path before = fs::current_path();
  fs::current_path(dir.path);
  std::ofstream("weights") << "x";
  CHECK(cache.resolve("weights").why().text.find("'./weights'") != std::string::npos);
  CHECK(*cache.resolve("./weights") == "./weights");
  fs::current_path(before);
}

TEST_CASE("the list holds finished models only, by name") {
  scratch dir;
  for (const auto* file : {"b.gguf", "a.gguf", "c.gguf.part", ".d.gguf", "e.txt"})
    std::ofstream(dir.path / file) << "xyz";
  fs::create_directory(dir.path / "f.gguf");
  const auto models = model_cache(dir.path).list();
  REQUIRE(models.size() == 2);
  CHECK(models[0].name == "a");
  CHECK(models[0].bytes == 3);
  CHECK(models[1].name == "b");
}

TEST_CASE("each catalogue entry is complete and its name is safe") {
  std::set<std::string_view> names;
  for (const auto& entry : catalogue()) {
    CHECK(is_model_name(entry.name));
    CHECK(names.insert(entry.name).second);
    CHECK(entry.sha256.size() == 64);
    CHECK(entry.bytes > 0);
    CHECK_FALSE(entry.licence.empty());
    CHECK(find_in_catalogue(entry.name) == &entry);
  }
  CHECK(find_in_catalogue(default_model) != nullptr);
  CHECK(find_in_catalogue("") == nullptr);
}

TEST_CASE("an address is read from pip's report, and nothing else passes for one") {
  CHECK(*address_in_pip_report(R"({"version":"1","install":[{"download_info":{"url":"https://x.test/a.whl"}}]})") ==
        "https://x.test/a.whl");
  for (const auto* text :
       {"", "{}", "[]", R"({"install":[]})", R"({"install":[{"download_info":{"url":5}}]})", "{\"in"})
    CHECK_FALSE(address_in_pip_report(text).ok());
}
