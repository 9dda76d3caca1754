// The completion dataflow: a text, or token ids, to their continuation. It differs from chat in its first part only:
// encode renders no template, takes a text as it is (control tokens in it stay text), and takes ids untouched.
#include "pipelines/request_path.hpp"

namespace troupe::pipelines {

request_path completion_path(const path_ends& model, std::shared_ptr<const operator_chain> operators,
                             std::shared_ptr<event_sink> sink, std::uint32_t credit, bool keep) {
  return accept_completion() >>             //
         encode(model) >>                   //
         generate() >>                      //
         assemble(std::move(operators)) >>  //
         subscribers(std::move(sink), credit, keep);
}

}  // namespace troupe::pipelines
