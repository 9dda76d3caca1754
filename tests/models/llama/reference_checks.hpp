// The default model against reference answers computed in fp32 (tests/reference), on whatever lane the evaluator has.
#pragma once

#include "models/evaluate.hpp"
#include "tests/models/llama/reference_lines.hpp"

namespace troupe::test {

/// Sum over the reference's ten best of p * (log p - log q); q is the engine's log-probability where it is among its
/// hundred best, else the least of those, which can only make the result larger.
double divergence(const scored& expected, const scored& found);

/// top-1 agrees in at least 95 %, log-likelihood within 0.02 nats, divergence under 0.01, ids where the margin is over 1.
void check_logits(models::evaluator& evaluator);
void check_greedy(models::evaluator& evaluator);
void check_text(models::evaluator& evaluator);

}  // namespace troupe::test
