#include "cli/pull/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace sotto::pull {

Digest::Digest(const std::string& etag, uint64_t size) : etag_(etag), size_(size), context_(EVP_MD_CTX_new()) {
  CHECK(context_ != nullptr);
  const bool hex =
      std::all_of(etag.begin(), etag.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (hex && etag.size() == 40) kind_ = Kind::kGitSha1;
  if (hex && etag.size() == 64) kind_ = Kind::kSha256;
  Restart();
}

Digest::~Digest() { EVP_MD_CTX_free(context_); }

void Digest::Restart() {
  if (kind_ == Kind::kNone) return;
  CHECK(EVP_DigestInit_ex(context_, kind_ == Kind::kSha256 ? EVP_sha256() : EVP_sha1(), nullptr) == 1);
  if (kind_ == Kind::kGitSha1) {
    const std::string header = fmt::format("blob {}", size_);
    Add({header.c_str(), header.size() + 1});  // with its NUL
  }
}

void Digest::Add(std::string_view bytes) {
  if (kind_ != Kind::kNone) CHECK(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

bool Digest::Matches() {
  if (kind_ == Kind::kNone) return true;
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw;
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(context_, raw.data(), &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", raw[i]);
  return text == etag_;
}

}  // namespace sotto::pull
