// Pages of a packed KV cache: the bytes in which keys and values of 8, 4, 3 and 2 bits stand, and the way of one token
// into them, out of them and from one group to another. Not a pool and not a policy: who gets which page and width is
// the caller's business, and nothing is allocated. Attention reads pages as they are (Backend::AttendPages).
//
//   const KvPageShape shape{kv_heads, head_dim};
//   PutToken(shape, k, v, window, 3, scales);          // rows turned by Backend::Hadamard
//   MoveToken(shape, window, 3, cold, 17, scales);     // 8 bits -> 4, 3 or 2 once; later 4 -> 3 -> 2 drops planes
//
// All pages of a shape have one size, so that one pool serves every width: [kv_heads][K block, V block], each block 8 *
// head_dim bytes for 64 / bits tokens. Token t of a page is field t / 8 (bits from t / 8 * bits on) of bytes in the
// order
//
//   K block  [head_dim / 4][t % 8: 8][d % 4: 4]                     a register of 32 bytes: 8 tokens x 4 dims
//   V block  [head_dim / 8][t % 8 / 4: 2][d % 8: 8][t % 4: 4]       8 dims x 4 tokens
//
// 3 bits are pages of 2 bits, 32 tokens each, with the upper two, and a page of 1 bit for each 64 tokens with the
// lowest.
//
// A scale for the keys and one for the values of each token and head stand outside, by position, so they never move:
// [positions][kv_heads][2] in fp16. An element is scale * code; codes are -127 … 127 at 8 bits, q + 1/2 with q =
// -2^(bits-1) … 2^(bits-1) - 1 below, stored as q + 2^(bits-1).
#pragma once
#include <cstddef>
#include <cstdint>

namespace sotto {

inline constexpr int kMaxKvHeadDim = 256;

struct KvPageShape {
  int kv_heads = 0, head_dim = 0;

  bool ok() const { return kv_heads >= 1 && head_dim >= 8 && head_dim <= kMaxKvHeadDim && head_dim % 8 == 0; }
  int64_t block_bytes() const { return int64_t{8} * head_dim; }
  int64_t page_bytes() const { return 2 * kv_heads * block_bytes(); }
};

constexpr int KvPageTokens(int bits) { return 64 / bits; }  // 8, 4, 2, or 1 for the planes of 3 bits

// Tokens of one width, in any order. Pages are taken as it fills: ceil(count / tokens of a page) are read.
struct KvGroup {
  int bits = 8;                        // 8, 4, 3 or 2
  std::byte* const* pages = nullptr;   // at 3 bits: of the upper two
  std::byte* const* planes = nullptr;  // 3 bits: of the lowest
  int64_t count = 0;
  const int32_t* positions = nullptr;  // [count]: whose scales, and where attention reports its mass
};

// How many pages, planes' included, `count` tokens take.
constexpr int64_t KvGroupPages(int bits, int64_t count) {
  const auto pages = [count](int width) { return (count + KvPageTokens(width) - 1) / KvPageTokens(width); };
  return bits == 3 ? pages(2) + pages(1) : pages(bits);
}

// Quantizes a token's rows, [kv_heads * head_dim], into a slot; its pages must be there, the group's count and
// positions are the caller's to keep. scales: the token's own [kv_heads][2]. On Gaussian rows of 128 the errors
// are at 43.8, 19.5, 14.4 and 9.3 dB for 8, 4, 3 and 2 bits.
void PutToken(const KvPageShape& shape, const float* k, const float* v, const KvGroup& to, int64_t slot,
              uint16_t* scales);

// Copies a token into a slot of a group of the same or of fewer bits. From 8 bits it is quantized again; below, the
// lowest bits are dropped and the scale becomes the best one for what the finer code said: 0.3 dB worse at 3 bits, 0.75
// dB at 2 than a code that was made for them. REQUIRES: to.bits <= from.bits, and that the slots are not the same.
void MoveToken(const KvPageShape& shape, const KvGroup& from, int64_t from_slot, const KvGroup& to, int64_t slot,
               uint16_t* scales);

// A token's elements of one head, [head_dim] each: exact products of scale and code.
void ReadToken(const KvPageShape& shape, const KvGroup& from, int64_t slot, int head, const uint16_t* scales, float* k,
               float* v);

}  // namespace sotto
