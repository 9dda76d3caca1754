// The default model against reference answers computed in fp32 (tests/reference), on whatever lane the evaluator has.
#pragma once

#include "models/evaluate.hpp"
#include "tests/models/llama/reference_lines.hpp"

namespace troupe::test {

/// Sum over the reference's ten best of p * (log p - log q); q is the engine's log-probability where it is among its
/// hundred best, else the least of those, which can only make the result larger.
double divergence(const scored& expected, const scored& found);

/// top-1 agrees in at least 95 %, divergence under 0.01, ids where the margin is over 1.
void check_logits(models::evaluator& evaluator);
void check_greedy(models::evaluator& evaluator);
/// Within 0.015 nats, over all texts together: one position is off by 0.06 (a standard deviation) for int8 activations
/// alone, so the 135 positions of logits.jsonl would be off by 0.02 every now and then.
void check_likelihood(models::evaluator& evaluator);

}  // namespace troupe::test
