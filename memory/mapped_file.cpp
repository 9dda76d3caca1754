// Opening and mapping of regular files. Knows no format.
#include "memory/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace troupe::memory {
namespace {

class descriptor {
public:
  explicit descriptor(int fd) : fd_(fd) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

private:
  int fd_;
};

error failed(const std::string& path, int number) {
  const errc code = number == ENOENT || number == ENOTDIR ? errc::not_found : errc::io;
  return {code, path + ": " + std::strerror(number), {}};
}

std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::int64_t page_size() noexcept { return ::sysconf(_SC_PAGESIZE); }

}  // namespace

result<mapped_file> mapped_file::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO without a writer would wait for ever; regular files ignore it.
  descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) return failed(path, errno);
  struct stat about = {};
  if (::fstat(file.get(), &about) != 0) return failed(path, errno);
  if (!S_ISREG(about.st_mode)) return error{errc::invalid_argument, path + ": not a regular file", {}};
  if (about.st_size == 0) return mapped_file(path, -1, nullptr, about);
  void* at = ::mmap(nullptr, static_cast<std::size_t>(about.st_size), PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (at == MAP_FAILED) return failed(path, errno);
  return mapped_file(path, file.release(), static_cast<std::byte*>(at), about);
}

mapped_file::mapped_file(std::string path, int descriptor, std::byte* data, const struct stat& about)
    : path_(std::move(path)), descriptor_(descriptor), data_(data), size_(about.st_size),
      modified_(nanoseconds(about.st_mtim)), altered_(nanoseconds(about.st_ctim)) {}

mapped_file::mapped_file(mapped_file&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), modified_(other.modified_),
      altered_(other.altered_) {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(modified_, other.modified_);
  std::swap(altered_, other.altered_);
  return *this;
}

mapped_file::~mapped_file() {
  if (data_ != nullptr) ::munmap(data_, static_cast<std::size_t>(size_));
  if (descriptor_ >= 0) ::close(descriptor_);
}

bool mapped_file::read(std::int64_t offset, std::span<std::byte> into) const noexcept {
  if (offset < 0) return false;
  while (!into.empty()) {
    const ssize_t got = ::pread(descriptor_, into.data(), into.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return true;
}

void mapped_file::prefetch(std::int64_t offset, std::int64_t bytes) const noexcept {
  const std::int64_t page = page_size();
  const std::int64_t first = std::clamp<std::int64_t>(offset, 0, size_) / page * page;
  const std::int64_t last = offset < 0 || bytes < 0 || bytes > size_ - std::min(offset, size_) ? size_ : offset + bytes;
  if (first < last) ::madvise(data_ + first, static_cast<std::size_t>(last - first), MADV_WILLNEED);
}

}  // namespace troupe::memory
