// Names, sizes and times of files.
#include "memory/copy_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "memory/digest.hpp"

namespace troupe::memory {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view ending = ".kept";  // of every copy: nothing else is ever deleted

}  // namespace

std::string copy_folder::path_of(const std::string& source, std::string_view kind) const {
  std::error_code failed;
  fs::path whole = fs::canonical(source, failed);
  if (failed) whole = source;
  const std::string name = whole.stem().string().substr(0, 128) + "-" + digest(whole.string()) + ".";
  return (fs::path(path) / (name + std::string(kind) + std::string(ending))).string();
}

std::vector<listed_copy> copy_folder::list() const {
  std::vector<listed_copy> all;
  std::error_code failed;
  for (fs::directory_iterator at(path, failed), end; !failed && at != end; at.increment(failed)) {
    struct stat about = {};
    const std::string name = at->path().string();
    if (!name.ends_with(ending) || ::lstat(name.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) continue;
    all.push_back({name, about.st_size, std::int64_t{about.st_mtim.tv_sec} * 1'000'000'000 + about.st_mtim.tv_nsec});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.used < b.used; });
  return all;
}

result<void> copy_folder::make_room(std::int64_t bytes, const std::string& replaced) const {
  if (bytes > most_bytes) return error{errc::out_of_memory, "copies may take less than this one does", {}};
  std::error_code failed;
  fs::create_directories(path, failed);
  if (failed) return error{errc::io, path + ": " + failed.message(), {}};
  ::chmod(path.c_str(), S_IRWXU);
  std::int64_t taken = 0;
  const auto others = [&] {
    auto found = list();
    std::erase_if(found, [&](const listed_copy& one) { return one.path == replaced; });
    return found;
  }();
  for (const listed_copy& one : others) taken += one.bytes;
  for (const listed_copy& one : others) {
    if (taken <= most_bytes - bytes) break;
    std::error_code ignored;
    if (fs::remove(one.path, ignored)) taken -= one.bytes;
  }
  struct statvfs disk = {};
  if (::statvfs(path.c_str(), &disk) != 0)
    return error{errc::io, path + ": the disk cannot be asked for its space", {}};
  if (static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize) / 2 < bytes)
    return error{errc::out_of_memory, path + ": too little space on its disk", {}};
  return {};
}

void copy_folder::mark_used(const std::string& copy) noexcept { ::utimensat(AT_FDCWD, copy.c_str(), nullptr, 0); }

}  // namespace troupe::memory
