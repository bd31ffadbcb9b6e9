// What files that say something of a model have in common (plan_file.h, figures.h): which files the model is, whether they are still the
// same, and fields that are checked one by one.
//
//   const Reader whole(json, path, "a plan that `sotto fit -o` wrote");
//   const int64_t batch = TRY(whole.Whole("batch", 1, 64));        // kBadModel names the file and the field
#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/model_dir.h"

namespace sotto {

struct FileState {
  uint64_t bytes = 0, checksum = 0;  // the latter of the first MiB: headers of weights, and all of most other files
  int64_t changed = 0;               // nanoseconds since 1970
  friend bool operator==(const FileState&, const FileState&) = default;
};
Result<FileState> StateOf(const std::string& path, Code code = Code::kBadModel);
std::string ChecksumText(uint64_t checksum);

// What was measured of a model lies beside it under this name (figures.h).
inline constexpr char kFiguresName[] = "quality.json";
// What a model reads; not what was measured of it.
std::vector<std::string> FilesOf(const ModelDir& dir);
// Of names, sizes, times and beginnings of all of these, wherever they lie.
Result<std::string> StateOfModel(const ModelDir& dir);

// What somebody wrote by hand is refused like what an older version wrote, not guessed at. The JSON outlives this.
class Reader {
 public:
  // `what` the file should be.
  Reader(const Json& object, std::string path, std::string what)
      : object_(object), path_(std::move(path)), what_(std::move(what)) {}
  Result<std::string> Text(const char* key) const;
  Result<int64_t> Whole(const char* key, int64_t least, int64_t most) const;
  Result<double> Number(const char* key) const;  // finite
  Result<bool> Flag(const char* key) const;
  Result<Reader> Object(const char* key) const;
  Result<std::vector<Reader>> List(const char* key) const;  // of objects
  Error Broken(const char* key) const;

 private:
  const Json& object_;
  std::string path_, what_;
};

}  // namespace sotto
