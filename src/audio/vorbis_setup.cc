// What a Vorbis set-up packet makes libvorbis allocate, found by reading the packet's codebooks, floors and residues
// without building anything. libvorbis 1.3.7 takes 2^23 entries of a codebook from a few bytes (ordered lengths), puts
// one pointer for each on the stack, and expands every residue's class book; a 205-byte file can thus crash it or ask
// for gigabytes. Source: Vorbis I specification, sections 3.2.1 (codebooks), 4.2.4, 6.2.1, 7.2.2, 8.6.1.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "audio/splice.h"

namespace sotto {
namespace {

// Least significant bit first; reading past the end gives zeros and sets `ended`.
class Bits {
 public:
  Bits(const std::byte* data, int64_t size) : data_(data), bits_(size * 8) {}
  uint32_t Read(int n) {
    uint32_t v = 0;
    for (int i = 0; i < n; ++i, ++at_) {
      if (at_ >= bits_) return ended_ = true, 0;
      v |= (static_cast<uint32_t>(data_[at_ >> 3]) >> (at_ & 7) & 1u) << i;
    }
    return v;
  }
  void Skip(int64_t n) {
    at_ = std::min(at_ + n, bits_ + 1);
    ended_ = ended_ || at_ > bits_;
  }
  bool ended() const { return ended_; }

 private:
  const std::byte* data_;
  int64_t bits_, at_ = 0;
  bool ended_ = false;
};

constexpr int64_t kMaxEntries = 32768;         // of one codebook; real encoders have at most 6,561
constexpr int64_t kMaxDecoderBytes = 2 << 20;  // of all tables; 8 channels at the highest quality take 0.3 MiB

struct Book {
  int64_t entries = 0, dim = 0;
};

// The largest r with r^dim <= entries.
int64_t Lookup1Values(int64_t entries, int64_t dim) {
  int64_t r = 0;
  for (;; ++r) {
    int64_t power = 1;
    for (int64_t i = 0; i < dim && power <= entries; ++i) power *= r + 1;
    if (power > entries || dim == 0) return r;
  }
}

// Bytes that the codebook takes once decoded; -1: malformed.
int64_t ReadBook(Bits& b, Book* book) {
  if (b.Read(24) != 0x564342) return -1;
  book->dim = b.Read(16);
  book->entries = b.Read(24);
  if (book->entries < 1 || book->entries > kMaxEntries || book->dim < 1 ||
      book->entries * book->dim > kMaxDecoderBytes / 4)
    return -1;
  if (!b.Read(1)) {
    const bool sparse = b.Read(1);
    for (int64_t i = 0; i < book->entries && !b.ended(); ++i)
      if (!sparse || b.Read(1)) b.Read(5);
  } else {
    b.Read(5);
    for (int64_t i = 0; i < book->entries && !b.ended();) {
      const int64_t n = b.Read(std::bit_width(static_cast<uint64_t>(book->entries - i)));
      if (n > book->entries - i) return -1;
      i += n;
      if (n == 0) {  // no entry of this length; at most 32 lengths exist, so this ends with the packet or a refusal
        if (b.ended()) return -1;
      }
    }
  }
  const uint32_t lookup = b.Read(4);
  if (lookup > 2) return -1;
  if (lookup != 0) {
    b.Read(32);
    b.Read(32);
    const int64_t value_bits = b.Read(4) + 1;
    b.Read(1);
    b.Skip(value_bits * (lookup == 1 ? Lookup1Values(book->entries, book->dim) : book->entries * book->dim));
  }
  if (b.ended()) return -1;
  return book->entries * (lookup != 0 ? 24 + 8 * book->dim : 24);
}

bool ReadFloor(Bits& b) {
  const uint32_t type = b.Read(16);
  if (type == 0) {
    b.Skip(8 + 16 + 16 + 6 + 8);
    b.Skip(8 * (int64_t{b.Read(4)} + 1));
    return !b.ended();
  }
  if (type != 1) return false;
  uint32_t list[31] = {}, dims[16] = {}, classes = 0;
  const uint32_t partitions = b.Read(5);
  for (uint32_t i = 0; i < partitions; ++i) {
    list[i] = b.Read(4);
    classes = std::max(classes, list[i] + 1);
  }
  for (uint32_t c = 0; c < classes; ++c) {
    dims[c] = b.Read(3) + 1;
    const uint32_t subclasses = b.Read(2);
    if (subclasses != 0) b.Skip(8);
    b.Skip(8 * (int64_t{1} << subclasses));
  }
  b.Read(2);
  const int64_t range_bits = b.Read(4);
  for (uint32_t i = 0; i < partitions; ++i) b.Skip(range_bits * dims[list[i]]);
  return !b.ended();
}

// Bytes of the table that maps a class word to its classes; -1: malformed.
int64_t ReadResidue(Bits& b, const Book* books, int64_t count) {
  if (b.Read(16) > 2) return -1;
  b.Skip(24 + 24 + 24);
  const int64_t classes = b.Read(6) + 1, phrase = b.Read(8);
  if (phrase >= count) return -1;
  int64_t cascade = 0;
  for (int64_t i = 0; i < classes; ++i) {
    uint32_t bits = b.Read(3);
    if (b.Read(1)) bits |= b.Read(5) << 3;
    cascade += std::popcount(bits);
  }
  b.Skip(8 * cascade);
  if (b.ended()) return -1;
  return books[phrase].entries * (8 + 16 + 4 * books[phrase].dim);  // at most one row an entry, each its own allocation
}

}  // namespace

Status CheckVorbisSetup(const std::string& name, const std::byte* packet, int64_t size) {
  const Error malformed =
      BadInput(fmt::format("{} has a Vorbis set-up that is damaged or forged; fetch it again", name));
  Bits b(packet, size);
  if (b.Read(8) != 5) return malformed;
  for (const char c : {'v', 'o', 'r', 'b', 'i', 's'})
    if (b.Read(8) != static_cast<uint8_t>(c)) return malformed;
  Book books[256];
  const int64_t count = b.Read(8) + 1;
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bytes = ReadBook(b, &books[i]);
    if (bytes < 0 || (total += bytes) > kMaxDecoderBytes) return malformed;
  }
  b.Skip(16 * (int64_t{b.Read(6)} + 1));
  for (int64_t i = b.Read(6); i >= 0; --i)
    if (!ReadFloor(b)) return malformed;
  for (int64_t i = b.Read(6); i >= 0; --i) {
    const int64_t bytes = ReadResidue(b, books, count);
    if (bytes < 0 || (total += bytes) > kMaxDecoderBytes) return malformed;
  }
  return {};
}

}  // namespace sotto
