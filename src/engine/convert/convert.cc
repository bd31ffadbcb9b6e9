#include "engine/convert/convert.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "engine/convert/gguf.h"
#include "engine/convert/int8.h"

namespace sotto {
namespace {

bool Exists(const std::string& path) {
  struct stat st {};
  return ::lstat(path.c_str(), &st) == 0;
}

bool SameFile(const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

}  // namespace

Status CheckOut(const ModelDir& dir, const ConvertRequest& r, bool gguf) {
  if (r.out.empty()) return Usage("-o OUT is missing: a file that ends in .gguf, or for int8 a directory");
  if (!Exists(r.out)) return {};
  if (SameFile(r.out, dir.gguf_path.empty() ? dir.path : dir.gguf_path))
    return Usage(fmt::format("{} is the model itself; give another place", r.out));
  if (!r.force) return Usage(fmt::format("{} is there already; give another place, or --force to replace it", r.out));
  if (IsDirectory(r.out) == gguf)
    return Usage(fmt::format("{} is {} directory; give another place", r.out, gguf ? "a" : "no"));
  return {};
}

Result<Converted> Convert(const ModelDir& dir, const ConvertRequest& request, ConvertProgress progress) {
  const WeightKind weights = TRY(ParseWeightKind(request.weights));
  const bool gguf = request.out.ends_with(".gguf"), int8 = weights == WeightKind{DType::kI8};
  if (gguf && int8)
    return Usage(
        "--weights int8 is no type of GGUF files; use q8_0, or give a directory after -o for int8 safetensors");
  if (!gguf && !int8)
    return Usage(fmt::format("--weights {} makes a GGUF file; give a name that ends in .gguf after -o",
                             request.weights.substr(0, 40)));
  if (int8 && !dir.gguf_path.empty())
    return Usage("int8 directories are made of Hugging Face directories, and this is a .gguf; give its original");
  TRY(CheckOut(dir, request, gguf));
  ConvertRequest r = request;
  if (r.threads == 0) r.threads = Threads::Available();
  const Original original = TRY(OpenOriginal(dir));
  return gguf ? WriteGguf(original, weights, r, progress) : WriteInt8(original, r, progress);
}

}  // namespace sotto
