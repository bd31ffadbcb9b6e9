// sotto_ggml_rows quantize|dequantize TYPE: one row of floats on stdin to blocks on stdout, or the reverse; seconds on stderr. What
// bench/peers/ggml_blocks.py compares with ggml.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "codec/ggml_blocks.h"

using sotto::GgmlType;

int main(int argc, char** argv) {
  const GgmlType* type = argc == 3 ? sotto::FindGgmlType(argv[2]) : nullptr;
  const bool quantize = argc == 3 && std::strcmp(argv[1], "quantize") == 0;
  if (type == nullptr) return std::fprintf(stderr, "sotto_ggml_rows quantize|dequantize TYPE < in > out\n"), 2;
  std::vector<std::byte> in(1 << 28);
  in.resize(std::fread(in.data(), 1, in.size(), stdin));
  const uint64_t blocks = in.size() / (quantize ? type->block * sizeof(float) : type->bytes);
  const auto n = static_cast<int64_t>(blocks * type->block);
  std::vector<std::byte> out(blocks * (quantize ? type->bytes : type->block * sizeof(float)));
  const auto start = std::chrono::steady_clock::now();
  if (quantize) {
    const auto encode = sotto::QuantizerOf(*type);
    if (!encode.ok()) return std::fprintf(stderr, "%s\n", encode.error().message.c_str()), 2;
    encode.value()(reinterpret_cast<const float*>(in.data()), n, out.data());
  } else {
    const auto decode = sotto::DequantizerOf(*type);
    if (!decode.ok()) return std::fprintf(stderr, "%s\n", decode.error().message.c_str()), 2;
    decode.value()(in.data(), n, reinterpret_cast<float*>(out.data()));
  }
  std::fprintf(stderr, "%.6f\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return std::fwrite(out.data(), 1, out.size(), stdout) == out.size() ? 0 : 1;
}
