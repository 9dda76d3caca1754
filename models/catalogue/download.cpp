// Resumption by Range and If-Range (RFC 9110, 13.1.5 and 14).
#include "models/catalogue/download.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>

#include <curl/curl.h>

#include "base/opened_library.hpp"

namespace troupe::models {
namespace {

namespace fs = std::filesystem;

/// libcurl, which brings some thirty libraries with it: only a download opens it.
struct curl_functions {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) init = nullptr;
  decltype(&curl_easy_cleanup) cleanup = nullptr;
  decltype(&curl_easy_setopt) set = nullptr;
  decltype(&curl_easy_getinfo) get = nullptr;
  decltype(&curl_easy_perform) perform = nullptr;
  decltype(&curl_easy_strerror) text_of = nullptr;
  decltype(&curl_slist_append) append = nullptr;
  decltype(&curl_slist_free_all) free_list = nullptr;
};

result<curl_functions> open_curl() {
  auto library = base::opened_library::open(TROUPE_LIBCURL);
  if (!library) return library.why();
  curl_functions f;
  auto found =
      library->find("curl_global_init", f.global_init, "curl_easy_init", f.init, "curl_easy_cleanup", f.cleanup,
                    "curl_easy_setopt", f.set, "curl_easy_getinfo", f.get, "curl_easy_perform", f.perform,
                    "curl_easy_strerror", f.text_of, "curl_slist_append", f.append, "curl_slist_free_all", f.free_list);
  if (!found) return found.why();
  if (f.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return error{errc::internal, "libcurl did not start", ""};
  return f;
}

using easy_handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using header_list = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;
struct closes {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using file_handle = std::unique_ptr<std::FILE, closes>;

fs::path etag_path(const fs::path& to) { return to.string() + ".etag"; }

std::string read_etag(const fs::path& to) {
  std::ifstream file(etag_path(to));
  return {std::istreambuf_iterator<char>(file), {}};
}

/// One attempt: what the callbacks need, and what they learn.
struct attempt {
  const curl_functions& curl_of;
  const download_request& what;
  std::FILE* file = nullptr;
  std::uint64_t start = 0;  ///< bytes that an earlier attempt left
  CURL* curl = nullptr;
  int write_errno = 0;
  std::string etag;
  std::optional<std::uint64_t> whole_size;  ///< as a 416 answer tells it
};

/// `lower` is in lower-case letters of ASCII.
bool same_letters(std::string_view text, std::string_view lower) {
  const auto lowered = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [&](char a, char b) { return lowered(a) == b; });
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) {
  auto& self = *static_cast<attempt*>(user);
  const std::string_view line(data, size);
  const auto colon = line.find(':');
  if (line.starts_with("HTTP/")) {  // a redirect's headers are not the file's
    self.etag.clear();
    self.whole_size.reset();
  }
  if (colon == line.npos) return size;
  const auto name = line.substr(0, colon);
  const auto value = trimmed(line.substr(colon + 1));
  if (same_letters(name, "etag") && value.starts_with('"')) self.etag = value;  // strong ones only
  if (same_letters(name, "content-range") && value.starts_with("bytes */")) {
    std::uint64_t whole = 0;
    if (std::from_chars(value.data() + 8, value.data() + value.size(), whole).ec == std::errc{})
      self.whole_size = whole;
  }
  return size;
}

/// The ETag is kept as soon as the first byte comes: the attempt may end at any byte.
std::size_t on_bytes(char* data, std::size_t, std::size_t size, void* user) {
  auto& self = *static_cast<attempt*>(user);
  if (!self.etag.empty()) {
    std::ofstream(etag_path(self.what.to)) << self.etag;
    self.etag.clear();
  }
  if (std::fwrite(data, 1, size, self.file) == size) return size;
  self.write_errno = errno;
  return 0;
}

int on_progress(void* user, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
  auto& self = *static_cast<attempt*>(user);
  if (!self.what.on_progress) return 0;
  curl_off_t speed = 0;
  self.curl_of.get(self.curl, CURLINFO_SPEED_DOWNLOAD_T, &speed);
  self.what.on_progress({self.start + static_cast<std::uint64_t>(now),
                         total > 0 ? self.start + static_cast<std::uint64_t>(total) : 0, static_cast<double>(speed)});
  return 0;
}

/// The certificates that the environment names, by the variables that curl and OpenSSL's programs know; null: the
/// system's. libcurl itself looks at neither.
const char* certificates() {
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"})
    if (const char* path = std::getenv(name); path != nullptr && *path != '\0') return path;
  return nullptr;
}

void set_up(CURL* curl, attempt& self, char* message) {
  const auto set = self.curl_of.set;
  const char* transports = self.what.any_transport ? "https,http,file" : "https";
  set(curl, CURLOPT_URL, self.what.url.c_str());
  set(curl, CURLOPT_PROTOCOLS_STR, transports);
  set(curl, CURLOPT_REDIR_PROTOCOLS_STR, self.what.any_transport ? "https,http" : "https");
  set(curl, CURLOPT_FOLLOWLOCATION, 1L);
  set(curl, CURLOPT_MAXREDIRS, 10L);
  set(curl, CURLOPT_FAILONERROR, 1L);
  set(curl, CURLOPT_NOSIGNAL, 1L);
  set(curl, CURLOPT_CONNECTTIMEOUT, 30L);
  set(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(self.what.stall_timeout.count()));
  set(curl, CURLOPT_USERAGENT, "troupe");
  if (const char* path = certificates()) set(curl, CURLOPT_CAINFO, path);
  set(curl, CURLOPT_ERRORBUFFER, message);
  set(curl, CURLOPT_HEADERFUNCTION, on_header);
  set(curl, CURLOPT_HEADERDATA, &self);
  set(curl, CURLOPT_WRITEFUNCTION, on_bytes);
  set(curl, CURLOPT_WRITEDATA, &self);
  set(curl, CURLOPT_NOPROGRESS, 0L);
  set(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  set(curl, CURLOPT_XFERINFODATA, &self);
  set(curl, CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(self.start));
}

/// How many bytes of a leftover may be continued.
std::uint64_t usable_leftover(const download_request& what) {
  std::error_code failed;
  const auto size = fs::file_size(what.to, failed);
  if (failed) return 0;
  return what.content_is_fixed || !read_etag(what.to).empty() ? size : 0;
}

enum class outcome { whole, start_over };

result<outcome> try_once(const curl_functions& f, const download_request& what, std::uint64_t start) {
  const file_handle file(std::fopen(what.to.c_str(), start > 0 ? "ab" : "wb"));
  if (!file) return error{errc::io, "cannot write '" + what.to.string() + "': " + std::strerror(errno), ""};
  const easy_handle curl(f.init(), f.cleanup);
  if (!curl) return error{errc::out_of_memory, "no memory for a download", ""};
  attempt self{f, what, file.get(), start, curl.get(), 0, {}, {}};
  char message[CURL_ERROR_SIZE] = "";
  set_up(curl.get(), self, message);
  header_list headers(nullptr, f.free_list);
  if (const auto etag = read_etag(what.to); start > 0 && !etag.empty()) {
    headers.reset(f.append(nullptr, ("If-Range: " + etag).c_str()));
    f.set(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  }

  const CURLcode code = f.perform(curl.get());
  long status = 0;
  f.get(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  const bool flushed = std::fflush(file.get()) == 0;
  if (self.write_errno != 0 || !flushed)
    return error{
        errc::io,
        "writing '" + what.to.string() + "' failed: " + std::strerror(self.write_errno != 0 ? self.write_errno : errno),
        ""};
  if (code == CURLE_OK) return outcome::whole;
  // 416: the range asked for begins at or behind the end; a leftover may be the whole file already.
  if (start > 0 && status == 416) return self.whole_size == start ? outcome::whole : outcome::start_over;
  if (start > 0 && (code == CURLE_RANGE_ERROR || code == CURLE_BAD_DOWNLOAD_RESUME)) return outcome::start_over;
  const std::string why = message[0] != '\0' ? message : f.text_of(code);
  return error{errc::network, "downloading " + what.url + " failed: " + why, ""};
}

}  // namespace

void discard_download(const fs::path& to) noexcept {
  std::error_code ignored;
  fs::remove(to, ignored);
  fs::remove(etag_path(to), ignored);
}

result<void> download(const download_request& what) {
  static const result<curl_functions> curl = open_curl();
  if (!curl) return curl.why();
  const auto start = usable_leftover(what);
  if (start == 0) discard_download(what.to);
  auto first = try_once(*curl, what, start);
  if (first.ok() && *first == outcome::start_over) {
    discard_download(what.to);
    first = try_once(*curl, what, 0);
  }
  if (!first.ok()) return std::move(first).why();
  std::error_code ignored;
  fs::remove(etag_path(what.to), ignored);
  return {};
}

}  // namespace troupe::models
