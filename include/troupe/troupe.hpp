// All of Troupe's C++ interface.
#pragma once

#include <troupe/chat.hpp>
#include <troupe/edge.hpp>
#include <troupe/event.hpp>
#include <troupe/generation.hpp>
#include <troupe/operator.hpp>
#include <troupe/pipeline.hpp>
#include <troupe/request.hpp>
#include <troupe/result.hpp>
#include <troupe/runtime.hpp>
#include <troupe/service.hpp>
