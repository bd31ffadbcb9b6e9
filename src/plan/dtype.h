// Element types of tensors in files and in memory.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/check.h"

namespace sotto {

enum class DType : uint8_t { kF32, kF16, kBF16, kI8, kU8, kI32, kI64, kF64 };

constexpr uint64_t SizeOf(DType t) {
  switch (t) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kI8:
    case DType::kU8: return 1;
    case DType::kI64:
    case DType::kF64: return 8;
  }
  return 0;
}

// The names that people write: fp32, fp16, bf16, int8 …
constexpr std::string_view NameOf(DType t) {
  switch (t) {
    case DType::kF32: return "fp32";
    case DType::kF16: return "fp16";
    case DType::kBF16: return "bf16";
    case DType::kI8: return "int8";
    case DType::kU8: return "uint8";
    case DType::kI32: return "int32";
    case DType::kI64: return "int64";
    case DType::kF64: return "fp64";
  }
  return "?";
}

}  // namespace sotto
