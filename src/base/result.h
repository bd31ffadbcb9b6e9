// Result<T>: a value, or an Error that a person can act on. What a user or a file can cause is an Error; what only a bug
// can cause is a CHECK (check.h). No exceptions are thrown by sotto.
//
//   Result<File> f = File::Open(path);
//   File file = TRY(File::Open(path));        // returns the error to the caller
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace sotto {

// The number is the process's exit code.
enum class Code { kFailed = 1, kUsage = 2, kBadInput = 3, kBadModel = 4, kOverBudget = 5, kInterrupted = 130 };

// The name used in `--json` errors: failed, usage, bad_input, bad_model, over_budget, interrupted.
const char* CodeName(Code code);

struct Error {
  Code code = Code::kFailed;
  std::string message;  // one sentence: what failed, where, what to do
  // Only for kOverBudget, bytes; 0 elsewhere.
  uint64_t required_bytes = 0;
  uint64_t budget_bytes = 0;
  uint64_t smallest_budget_bytes = 0;
};

inline Error Failed(std::string m) { return {Code::kFailed, std::move(m)}; }
inline Error Usage(std::string m) { return {Code::kUsage, std::move(m)}; }
inline Error BadInput(std::string m) { return {Code::kBadInput, std::move(m)}; }
inline Error BadModel(std::string m) { return {Code::kBadModel, std::move(m)}; }

template <class T = void>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return CHECK(ok()), std::get<0>(state_); }
  const T& value() const& { return CHECK(ok()), std::get<0>(state_); }
  T&& value() && { return CHECK(ok()), std::get<0>(std::move(state_)); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& { return CHECK(!ok()), std::get<1>(state_); }
  Error&& error() && { return CHECK(!ok()), std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : failed_(true), error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  void value() const { CHECK(ok()); }
  const Error& error() const& { return CHECK(failed_), error_; }
  Error&& error() && { return CHECK(failed_), std::move(error_); }

 private:
  bool failed_ = false;
  Error error_;
};
using Status = Result<void>;

}  // namespace sotto

// Evaluates to the value, or returns the error from the enclosing function (a GNU statement expression).
#define TRY(...)                                                  \
  ({                                                              \
    auto try_result_ = (__VA_ARGS__);                             \
    if (!try_result_.ok()) return std::move(try_result_).error(); \
    std::move(try_result_).value();                               \
  })
