#include "base/npy.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/bytes.h"

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

Result<NpyReader> NpyReader::Open(const std::string& path) {
  NpyReader r;
  r.file_ = TRY(File::Open(path, Code::kBadInput));
  const Error bad = BadInput(fmt::format("{} is not a float32 .npy file in C order", path));
  std::array<uint8_t, 10> head;
  if (r.file_.size() < head.size()) return bad;
  TRY(r.file_.ReadAt(0, std::as_writable_bytes(std::span(head))));
  std::string header(head[8] + 256U * head[9], '\0');
  if (std::memcmp(head.data(), kMagic.data(), 6) != 0 || r.file_.size() < head.size() + header.size()) return bad;
  TRY(r.file_.ReadAt(head.size(), std::as_writable_bytes(std::span(header))));
  r.at_ = head.size() + header.size();
  const size_t open = header.find("'shape': (");
  if (header.find("'<f4'") == header.npos || header.find("False") == header.npos || open == header.npos) return bad;
  const char* p = header.data() + open + 10;
  const char* const end = header.data() + header.size();
  while (p < end && *p != ')') {
    if (*p == ' ' || *p == ',') {
      ++p;
      continue;
    }
    int64_t n = 0;
    const auto [next, errc] = std::from_chars(p, end, n);
    if (errc != std::errc() || n < 0 || __builtin_mul_overflow(r.count_, static_cast<uint64_t>(n), &r.count_))
      return bad;
    r.shape_.push_back(n);
    p = next;
  }
  if (SatMul(r.count_, sizeof(float)) != r.file_.size() - r.at_) return bad;
  return r;
}

Status NpyReader::Next(std::span<float> values) {
  TRY(file_.ReadAt(at_, std::as_writable_bytes(values)));
  at_ += values.size_bytes();
  return {};
}

Result<NpyArray> ReadNpy(const std::string& path) {
  NpyReader r = TRY(NpyReader::Open(path));
  if (r.count() > kMaxBytes / sizeof(float))
    return BadInput(fmt::format("{} holds more than 256 MiB; a smaller array is expected", path));
  NpyArray array{r.shape(), std::vector<float>(r.count())};
  TRY(r.Next(array.values));
  return array;
}

}  // namespace sotto
