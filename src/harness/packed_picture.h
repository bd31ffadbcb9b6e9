// The picture of a packed model: tables of its matrices, layers down and roles across, coloured by bits a weight, entropy, error and,
// where it was predicted, the harm of that error.
//
//   TRY(CheckPicturePath(path, "--plot"));
//   TRY(DrawPacked(TRY(Inspect(model)), model, path));
#pragma once
#include <string>

#include "engine/pack/pack.h"

namespace sotto {

// Writes `path`, .svg or .png by its ending, atomically. kUsage when nothing is packed, or too much for a picture. REQUIRES:
// CheckPicturePath(path).
Status DrawPacked(const Packed& packed, const std::string& title, const std::string& path);

}  // namespace sotto
