// The chat dataflow: what happens between a client's messages and the events that it reads.
//
//   accept       fields in range, roles known                         on the caller's thread
//   encode       the model's template, then its tokenizer             a tokenizer actor
//   generate     queue, blocks, prefill in chunks, decode, sampling   scheduler, kv_store, prefill, decode
//   assemble     text, stop strings, operators, the token log         the generation's stream shard
//   subscribers  every watcher at its own offset and pace             the same shard; sinks are the front end's
//
// Between generate and assemble goes one message per step, whatever the number of generations in it. Credit flows the
// other way: a watcher's to its subscription; when all watchers are far behind, the shard pauses generate. Cancel takes
// the same way back: from the last watcher, or by name, to the scheduler, which frees slot and blocks within a step.
#include "pipelines/request_path.hpp"

namespace troupe::pipelines {

request_path chat_path(const path_ends& model, std::shared_ptr<const operator_chain> operators,
                       std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep) {
  return accept_chat() >>                   //
         encode(model) >>                   //
         generate() >>                      //
         assemble(std::move(operators)) >>  //
         subscribers(std::move(sink), credit, keep);
}

}  // namespace troupe::pipelines
