// Operators on values, as Python has them; integers are 64 bits wide and overflow ends the render.
#include <cmath>

#include "models/chat_template/comparison.hpp"
#include "models/chat_template/format_text.hpp"
#include "models/chat_template/printing.hpp"
#include "models/chat_template/renderer.hpp"

namespace troupe::models::jinja {
namespace {

constexpr std::string_view symbols[] = {"+", "-", "*", "/", "//", "%", "**"};

std::int64_t power(renderer& run, std::int64_t base, std::int64_t exponent) {
  std::int64_t made = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1 && __builtin_mul_overflow(made, base, &made)) run.fail("integer overflow");
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) run.fail("integer overflow");
  }
  return made;
}

value integer_binary(renderer& run, op operation, std::int64_t a, std::int64_t b) {
  std::int64_t made = 0;
  bool overflow = false;
  if ((operation == op::divide || operation == op::floor_divide || operation == op::modulo) && b == 0)
    run.fail("division by zero");
  switch (operation) {
    case op::add: overflow = __builtin_add_overflow(a, b, &made); break;
    case op::subtract: overflow = __builtin_sub_overflow(a, b, &made); break;
    case op::multiply: overflow = __builtin_mul_overflow(a, b, &made); break;
    case op::divide: return value::real(static_cast<double>(a) / static_cast<double>(b));
    case op::floor_divide:
      if (b == -1) overflow = __builtin_sub_overflow(std::int64_t{0}, a, &made);
      else made = a / b - (a % b != 0 && (a < 0) != (b < 0));
      break;
    case op::modulo:
      made = b == -1 ? 0 : a % b;
      if (made != 0 && (made < 0) != (b < 0)) made += b;
      break;
    default: made = power(run, a, b);
  }
  if (overflow) run.fail("integer overflow");
  return value::integer(made);
}

value real_binary(renderer& run, op operation, double a, double b) {
  const bool divides = operation == op::divide || operation == op::floor_divide || operation == op::modulo;
  if (divides && b == 0) run.fail("division by zero");
  double remainder = divides ? std::fmod(a, b) : 0;
  if (remainder != 0 ? (remainder < 0) != (b < 0) : false) remainder += b;
  switch (operation) {
    case op::add: return value::real(a + b);
    case op::subtract: return value::real(a - b);
    case op::multiply: return value::real(a * b);
    case op::divide: return value::real(a / b);
    case op::floor_divide: {
      const double quotient = (a - remainder) / b;
      if (quotient == 0) return value::real(std::copysign(0.0, a / b));
      const double floor = std::floor(quotient);
      return value::real(quotient - floor > 0.5 ? floor + 1 : floor);
    }
    case op::modulo: return value::real(remainder == 0 ? std::copysign(0.0, b) : remainder);
    default: break;
  }
  if (a == 0 && b < 0) run.fail("zero cannot be raised to a negative power");
  const double made = std::pow(a, b);
  if ((std::isnan(made) && !std::isnan(a) && !std::isnan(b)) ||
      (std::isinf(made) && std::isfinite(a) && std::isfinite(b)))
    run.fail("the result of ** is not a number in range");
  return value::real(made);
}

// "ab" * 3, [1] * 3; the size is checked before anything is made.
value repeated(renderer& run, const value& what, std::int64_t times) {
  const auto count = static_cast<std::size_t>(times < 0 ? 0 : times);
  const std::size_t each = what.str() ? what.str()->size() : what.seq()->items.size();
  std::size_t total = 0;
  if (__builtin_mul_overflow(count, each, &total)) total = static_cast<std::size_t>(-1);
  if (what.str()) {
    run.cost.text_bytes(total);
    text made;
    for (std::size_t i = 0; each > 0 && i < count; ++i) made.append(*what.str());
    return value::string(std::move(made));
  }
  run.cost.step(total);
  std::vector<value> items;
  for (std::size_t i = 0; each > 0 && i < count; ++i)
    items.insert(items.end(), what.seq()->items.begin(), what.seq()->items.end());
  return run.list(std::move(items), what.seq()->kind);
}

bool repeatable(const value& v) { return v.str() || (v.seq() && v.seq()->kind <= sequence_kind::tuple); }

}  // namespace

value renderer::binary(op operation, const value& a, const value& b) {
  if (operation == op::modulo && a.str()) return string(format_percent(*this, *a.str(), b));
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.as_integer() && b.as_integer()) {
    if (operation != op::power || *b.as_integer() >= 0)
      return integer_binary(*this, operation, *a.as_integer(), *b.as_integer());
    return real_binary(*this, operation, *a.as_real(), *b.as_real());
  }
  if (a.as_real() && b.as_real()) return real_binary(*this, operation, *a.as_real(), *b.as_real());
  if (operation == op::add && a.str() && b.str()) {
    cost.text_size(a.str()->size() + b.str()->size());
    text joined = *a.str();
    joined.append(*b.str());
    return string(std::move(joined));
  }
  if (operation == op::add && repeatable(a) && repeatable(b) && a.seq() && b.seq() && a.seq()->kind == b.seq()->kind) {
    std::vector<value> joined = a.seq()->items;
    joined.insert(joined.end(), b.seq()->items.begin(), b.seq()->items.end());
    return list(std::move(joined), a.seq()->kind);
  }
  if (operation == op::multiply && repeatable(a) && b.as_integer()) return repeated(*this, a, *b.as_integer());
  if (operation == op::multiply && repeatable(b) && a.as_integer()) return repeated(*this, b, *a.as_integer());
  fail(std::string("cannot use ") + std::string(symbols[static_cast<std::size_t>(operation)]) + " on " +
       std::string(a.type_name()) + " and " + std::string(b.type_name()));
}

value renderer::unary(op operation, const value& a) {
  if (a.is_undefined()) fail_undefined(a);
  const bool negative = operation == op::negate;
  if (const auto* real = a.as<double>()) return value::real(negative ? -*real : *real);
  const auto number = a.as_integer();
  if (!number) fail(std::string("a value of type ") + std::string(a.type_name()) + " has no sign");
  return negative ? integer_binary(*this, op::subtract, 0, *number) : value::integer(*number);
}

bool renderer::compare(op operation, const value& a, const value& b) {
  switch (operation) {
    case op::equal: return equal(cost, a, b);
    case op::not_equal: return !equal(cost, a, b);
    case op::less: return less(cost, a, b);
    case op::greater: return less(cost, b, a);
    case op::in: return contains(cost, b, a);
    case op::not_in: return !contains(cost, b, a);
    case op::less_equal: return less(cost, a, b) || equal(cost, a, b);
    default: return less(cost, b, a) || equal(cost, a, b);
  }
}

}  // namespace troupe::models::jinja
