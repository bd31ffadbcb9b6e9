#include "base/npy.h"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <cstring>

namespace sotto {
namespace {
constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
constexpr uint64_t kMaxBytes = 256 << 20;
static_assert(std::endian::native == std::endian::little, "float32 is written as it lies in memory");
}  // namespace

Result<NpyWriter> NpyWriter::Create(const std::string& path, int64_t rows, int64_t cols) {
  NpyWriter w;
  AtomicFile file = TRY(AtomicFile::Create(path));
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
  header.resize((kMagic.size() + 2 + header.size() + 1 + 63) / 64 * 64 - kMagic.size() - 2 - 1, ' ');
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  TRY(file.Write(kMagic));
  TRY(file.Write({reinterpret_cast<const char*>(&length), 2}));
  TRY(file.Write(header));
  w.left_ = rows * cols;
  std::swap(w.file_, file);
  return w;
}

Status NpyWriter::Append(std::span<const float> values) {
  left_ -= static_cast<int64_t>(values.size());
  CHECK(left_ >= 0);
  return file_.Write({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

Status NpyWriter::Commit() {
  CHECK(left_ == 0);
  return file_.Commit();
}

Result<NpyArray> ReadNpy(const std::string& path) {
  const std::string text = TRY(ReadSmallFile(path, kMaxBytes, Code::kBadInput));
  const Error bad = BadInput(fmt::format("{} is not a float32 .npy file in C order", path));
  if (text.size() < 10 || text.compare(0, 6, kMagic.substr(0, 6)) != 0) return bad;
  const size_t length = static_cast<uint8_t>(text[8]) + 256U * static_cast<uint8_t>(text[9]);
  if (text.size() < 10 + length) return bad;
  const std::string_view header = std::string_view(text).substr(10, length);
  const size_t open = header.find("'shape': (");
  if (header.find("'<f4'") == std::string_view::npos || header.find("False") == std::string_view::npos ||
      open == std::string_view::npos)
    return bad;
  NpyArray array;
  uint64_t count = 1;
  const char* p = header.data() + open + 10;
  const char* const end = header.data() + header.size();
  while (p < end && *p != ')') {
    if (*p == ' ' || *p == ',') {
      ++p;
      continue;
    }
    int64_t n = 0;
    const auto [next, errc] = std::from_chars(p, end, n);
    if (errc != std::errc() || n < 0 || __builtin_mul_overflow(count, static_cast<uint64_t>(n), &count)) return bad;
    array.shape.push_back(n);
    p = next;
  }
  if (count > kMaxBytes || text.size() - 10 - length != count * 4) return bad;
  array.values.resize(count);
  std::memcpy(array.values.data(), text.data() + 10 + length, count * 4);
  return array;
}

}  // namespace sotto
