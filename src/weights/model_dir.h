// From what a person writes as MODEL to a place on disk: a directory, a file, a name in the Hugging Face cache, or (to
// plan) a name in the shipped catalogue. Reads no weights and downloads nothing; `sotto pull` does.
//
//   ModelDir model = TRY(FindModel("openai/whisper-tiny", ModelUse::kRun));
//   Json config = TRY(ReadConfig(model));
#pragma once
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace sotto {

enum class ModelUse {
  kPlan,  // needs the config only
  kRun,   // needs weights as well
};

struct ModelDir {
  std::string path;         // the directory of config, tokenizer and weights; "" for a catalogue entry
  std::string name;         // for reports: "openai/whisper-tiny", or the last component of the path
  std::string config_path;  // config.json, or the catalogue's file; "" for a .gguf
  std::string gguf_path;    // the .gguf file; "" for everything else
  std::string mmproj_path;  // the audio half of a .gguf, when it is wanted
  std::string commit;       // of the Hugging Face cache's snapshot; "" for everything else
  bool has_weights = false;
  bool from_catalog = false;
};

// `what` is, in this order:
//   a directory with a config.json             ./whisper-tiny
//   a .gguf file                               model.gguf, or the first of model-00001-of-00003.gguf
//   a config.json, to plan                     whisper-tiny/config.json
//   owner/name or owner/name@revision in the Hugging Face cache (hub_cache.h), revision "main" unless given
//   owner/name in the catalogue, to plan       SOTTO_CATALOG, SetCatalogDir, <executable>/../share/sotto/catalog, the
//                                              source tree
// A name without an owner is one of Whisper's sizes (tiny … large-v3-turbo, turbo, distil-…), or the one name of the
// cache and the catalogue that has any owner. kBadModel says where it was looked for and how to get it; kUsage for a
// name that cannot be one.
Result<ModelDir> FindModel(const std::string& what, ModelUse use);

// The model's config: config.json, or the "config" of a catalogue entry; adapter_config.json (LoRA) and Kimi-Audio's
// whisper-large-v3/config.json stand in it as adapter_config and whisper_config. REQUIRES: gguf_path is "".
Result<Json> ReadConfig(const ModelDir& model);

// "tiny" -> "openai/whisper-tiny"; "" for a name that is no size of Whisper.
std::string WhisperAlias(std::string_view name);

// The catalogue's directory; "" when there is none.
std::string CatalogDir();
// For a library that brings its own catalogue and has no executable to stand beside. Before any other thread looks a name up.
void SetCatalogDir(std::string dir);

}  // namespace sotto
