// One safetensors header as a stream of checked tensors, and the shard index as a stream of (name, shard). Used by
// safetensors.cc only.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/function_ref.h"
#include "base/result.h"
#include "weights/safetensors.h"

namespace sotto {

// Where the two parts of a file lie, bytes from its start.
struct HeaderRange {
  uint64_t json_begin = 0, json_end = 0;  // JSON object; padding after it is not part of the range
  uint64_t data_begin = 0;                // tensors lie in [data_begin, size of the file)
};

// Reads the length and the first byte. Errors: shorter than 8 bytes, over kMaxHeaderBytes, past the end, not an object.
Result<HeaderRange> ReadHeaderRange(const File& file);

// Calls `visit` for each tensor, whose own numbers have been checked: type and shape against the bytes, the bytes
// against the file. What needs all tensors at once (holes, overlaps, duplicates) is the caller's. `index` becomes
// TensorHeader::file.
Status ReadHeader(const File& file, const HeaderRange& range, int index,
                  FunctionRef<Status(const TensorHeader&)> visit);

// Calls `visit` for each entry of "weight_map" in a model.safetensors.index.json; everything else in it is skipped.
Status ReadShardIndex(const File& file, FunctionRef<Status(std::string_view tensor, std::string_view shard)> visit);

}  // namespace sotto
