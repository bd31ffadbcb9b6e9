// What an interrupted pack leaves beside the file that it was writing, so that the same command goes on where it was: lines of JSON,
// the request and its sources first, then the steps that were found, then each matrix that is in the file. A record of another
// request, or of files that have changed since, is no record; a matrix whose bytes are not those that were written is coded again.
//
//   PackRecord record(partial + "/packing", identity, matrices);   // reads what is there
//   TRY(record.Begin(multiples));
//   if (const Json* made = record.Find("lm_head.weight")) …
//   TRY(record.Add(std::move(made)));
#pragma once
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace sotto {

class PackRecord {
 public:
  PackRecord(const std::string& path, Json identity, size_t matrices);

  bool continues() const { return continues_; }
  const std::vector<double>& multiples() const { return multiples_; }  // of a record that continues
  const Json* Find(const std::string& name) const;

  // Writes anew what was read. `multiples` are those of a record that does not continue.
  Status Begin(const std::vector<double>& multiples);
  Status Add(const Json& matrix);  // with its "name"
  void Keep() { file_.Keep(); }
  void Drop() { file_ = AtomicFile(); }  // with its file

 private:
  void Read(std::string_view text, size_t matrices);
  Status Write(const Json& line);

  std::string path_;
  Json identity_;
  bool continues_ = false;
  std::vector<double> multiples_;
  std::map<std::string, Json> matrices_;
  AtomicFile file_;
};

}  // namespace sotto
