// Where along a row's tokens, best first, a running count or mass passes a target ("the k-th best", "where the mass
// reaches p", "where the draw falls"): the one question that truncated sampling asks. Equal logits go by id. Nothing is
// sorted but a few tokens: a sample of the row says between which logits an answer lies, an exact pass over the row
// finds what is above and gathers what is between, and among these the interval is narrowed. Masses are whole numbers,
// so sums do not depend on order. Knows no parameters and no generator.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_set.hpp"

namespace troupe::kernels {

/// Where a running sum passed its target.
struct passing {
  std::int32_t at = -1;    ///< place of the token; -1: nowhere
  std::uint64_t mass = 0;  ///< of all tokens up to and with it; of the whole row where it passed nowhere
};

/// One per thread; allocates nothing once warm.
class row_selection {
public:
  /// Of the following questions. No logit is NaN or above `best`; -inf is no token. `logits` stay where they are.
  void begin(const sampling_kernels& kernels, std::span<const float> logits, float best,
             float per_temperature) noexcept;

  /// A guess: the k best tokens, if so many have mass, are most likely not below it, and not many more.
  float floor_of(std::size_t k);

  /// To be called before the questions below.
  void weigh();
  std::uint64_t mass();
  /// Of those whose weight (the best one's is 1) is at least this.
  std::uint64_t mass_at_least(float weight) const;
  /// That it will be asked where about these shares of the mass are passed: one pass over the row then serves both and
  /// mass().
  void expect(double share, double other);
  /// The first token with which the running count or mass passes `target`. Where only tokens without mass do so:
  /// nowhere.
  passing where_count_passes(std::uint64_t target);
  passing where_mass_passes(std::uint64_t target);

private:
  static constexpr std::size_t bins = 256;

  void sample(bool weighed);
  float edge(std::size_t bin) const noexcept { return sampled_.high - static_cast<float>(bin) * step_; }
  logit_range guess_by_mass(double target, double deviations) const noexcept;
  /// Some tokens of the row, by rising places.
  struct tokens {
    const float* logits;
    const float* weights;
    const std::int32_t* places;  ///< null: all of the row
    std::int64_t count;
  };
  struct token_list {
    std::vector<float> logits, weights;
    std::vector<std::int32_t> places;

    void make_room(std::size_t count);
    void copy(const tokens& from, std::int64_t count);
    tokens all(std::int64_t count) const { return {logits.data(), weights.data(), places.data(), count}; }
  };
  tokens all() const { return {logits_.data(), weights_.data(), nullptr, static_cast<std::int64_t>(logits_.size())}; }
  tokens gather(const tokens& some, logit_range within);
  void survey(logit_range one, logit_range other);
  template <bool ByCount>
  std::optional<passing> pass_among(tokens some, logit_range within, token_tally above, std::uint64_t target);

  const sampling_kernels* kernels_ = nullptr;
  std::span<const float> logits_;
  float best_ = 0.0f, per_temperature_ = 1.0f;
  float floor_ = 0.0f;  ///< no token below it has mass
  double about_mass_ = 0;
  std::uint64_t mass_ = 0;  ///< 0: not known yet
  std::vector<float> weights_;

  double stride_ = 0.0;  ///< tokens for each one of the sample; 0: not sampled yet
  logit_range sampled_{};
  float step_ = 0.0f;  ///< a bin's width
  struct sampled_bin {
    float count, mass, squares;
  };
  std::array<sampled_bin, bins> sampled_bins_{};  ///< the best first
  std::vector<std::int32_t> sampled_places_;

  logit_range surveyed_[2] = {};
  token_list gathered_;  ///< what is within them
  std::int64_t gathered_count_ = 0;
  std::uint64_t masses_[3] = {};  ///< above each, and of all

  token_list near_[2];  ///< near to where something passes
  int turn_ = 0;
  std::vector<std::int32_t> order_;
};

}  // namespace troupe::kernels
