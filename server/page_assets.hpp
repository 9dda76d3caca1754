// The chat page's files, embedded in the binary by embed_page.cmake.
#pragma once

#include <span>
#include <string_view>

namespace troupe::server {

struct page_asset {
  std::string_view name;  ///< "index.html"
  std::string_view content_type;
  std::string_view etag;  ///< with its quotes
  std::string_view bytes;
};

std::span<const page_asset> page_assets() noexcept;

}  // namespace troupe::server
