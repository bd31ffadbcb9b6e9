// The two names that the Hub gives to content, and a running computation of them.
//
//   40 hex digits   git's sha1 of a blob: sha1("blob <size>\0" + content)     small files
//   64 hex digits   sha256 of the content                                      files in LFS and Xet
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace sotto::pull {

class Digest {
 public:
  // For content of `size` bytes that `etag` names. An etag of another form (some mirrors) names nothing checkable.
  Digest(const std::string& etag, uint64_t size);
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  bool checkable() const { return kind_ != Kind::kNone; }
  void Restart();
  void Add(std::string_view bytes);
  bool Matches();  // ends the computation; Restart() begins another one. True when not checkable.

 private:
  enum class Kind { kNone, kGitSha1, kSha256 };
  std::string etag_;
  uint64_t size_;
  Kind kind_ = Kind::kNone;
  evp_md_ctx_st* context_;
};

}  // namespace sotto::pull
