// A tokenizer's tables as one run of bytes, to be kept and found again: hashing a vocabulary takes several times as
// long as reading what came of it. Knows no file. Private to models/tokenizer.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <troupe/result.hpp>

#include "models/tokenizer/tokenizer_parts.hpp"

namespace troupe::models {

/// For this machine alone. A multiple of 8 bytes.
std::vector<std::byte> tables_of(const tokenizer_parts& parts);

/// Looks into `bytes`, aligned to 8, as long as it lives; `held` keeps them. Believes what the tables say: the caller
/// knows that they are as tables_of() made them. Errors: corrupt_file, where their sizes do not fit each other.
result<std::shared_ptr<const tokenizer_parts>> parts_of(std::span<const std::byte> bytes,
                                                        std::shared_ptr<const void> held);

}  // namespace troupe::models
