// A step's batch on its way to the device and its picks on their way back, without a copy command: the host writes a
// record into pinned memory, the step's first kernel reads it into the tables, the last one writes the picks back.
// Knows no op.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_lane.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/sampling.hpp"
#include "kernels/cuda/shared_reads.hpp"
#include "kernels/cuda/step_tables.hpp"
#include "kernels/lane.hpp"

namespace troupe::kernels::cuda {

/// One owner's tables and a ring of records. The kernels count steps as the host does, so that a captured graph finds
/// its record: step n uses record n % records.
class step_buffers {
public:
  static constexpr std::int32_t records = 4;  ///< more than steps in flight

  static result<step_buffers> create(const step_limits& limits);

  const step_limits& limits() const noexcept { return limits_; }
  /// Device pointers, and the host sizes given.
  step_tables tables(std::int32_t rows, std::int32_t sequences, std::int32_t samples, std::int32_t longest) const;
  /// All of it but logits.
  sample_call sampling(const step_tables& tables) const;

  /// Writes the record of the next step: the batch padded to `bucket` rows, sequences and samples (0: as it is).
  /// Block tables are compared with what the device has; only changes travel. The record that it overwrites must be of
  /// a step that has ended.
  void write(const step_batch& batch, std::int32_t bucket);
  /// Of the step written last: where each sequence's block table first differs from that of the step before.
  std::span<const std::int32_t> changed_from() const noexcept { return changed_from_; }
  /// Adds to the record of the step written last what its sequences read together. Only changes travel.
  void write_shared(const shared_reads& reads);
  /// Where the kernels find that.
  shared_tables shared() const;
  /// Queue the first and the last kernel of a step.
  void read_on(cudaStream_t on, std::int32_t bucket) const;
  void publish_on(cudaStream_t on) const;
  /// Whether the batch's lists of seen tokens and biases fit a record.
  static bool lists_fit(std::span<const sampling_row> sampling);
  /// The choices of step `number`, once it is computed.
  const sample_pick* published(std::uint64_t number) const noexcept;
  step_times times(std::uint64_t number) const noexcept { return times_.as<const step_times>()[number % records]; }
  /// Of the step written last.
  std::uint64_t number() const noexcept { return written_ - 1; }

private:
  /// Numbers for the state's offset `to`, then zeros up to `padded`.
  void add(std::int32_t to, std::span<const std::int32_t> values, std::int32_t padded);
  void add_table(std::int32_t sequence, std::span<const std::int32_t> blocks);
  void add_changed(std::int32_t to, std::span<const std::int32_t> values, std::vector<std::int32_t>& shown);
  void add_sampling(std::span<const sampling_row> rows);

  step_limits limits_;
  std::int32_t table_stride_ = 0;
  // Offsets in the device's state, in ints.
  std::int32_t ids_at_ = 0, row_sequence_at_ = 0, row_position_at_ = 0, first_row_at_ = 0, row_count_at_ = 0,
               past_at_ = 0, sample_slots_at_ = 0, last_ids_at_ = 0, picks_at_ = 0, parameters_at_ = 0, seen_at_ = 0,
               biases_at_ = 0, block_tables_at_ = 0, items_there_at_ = 0, items_at_ = 0, seats_at_ = 0, own_at_ = 0;
  device_buffer state_;
  pinned_buffer records_;
  pinned_buffer published_;
  pinned_buffer times_;
  std::int32_t most_pieces_ = 0;
  std::int32_t record_ints_ = 0;
  std::uint64_t written_ = 0;
  // The record being written.
  std::int32_t* record_ = nullptr;
  std::int32_t pieces_ = 0;
  std::int32_t payload_ = 0;
  std::vector<std::int32_t> shadow_;            ///< the device's block tables as of the last record
  std::vector<std::int32_t> shown_parameters_;  ///< the device's, likewise
  std::vector<std::int32_t> shown_items_there_, shown_items_, shown_seats_, shown_own_;
  std::vector<std::int32_t> changed_from_;
  std::vector<std::int32_t> row_sequence_, row_position_, numbers_;
  std::vector<sample_parameters> parameters_;
  std::vector<seen_token> seen_;
  std::vector<token_bias> biases_;
};

}  // namespace troupe::kernels::cuda
