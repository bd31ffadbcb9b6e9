#include "weights/model_dir.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <set>
#include <vector>

#include "base/executable.h"
#include "base/file.h"
#include "weights/hub_cache.h"

namespace sotto {
namespace {

constexpr std::string_view kSizes[] = {"tiny",   "tiny.en",   "base",  "base.en",  "small",    "small.en",
                                       "medium", "medium.en", "large", "large-v2", "large-v3", "large-v3-turbo"};

// Files beside config.json that change what a model takes, and the key that they become.
constexpr std::pair<const char*, const char*> kCompanions[] = {
    {"adapter_config", "adapter_config.json"},            // LoRA (PEFT)
    {"whisper_config", "whisper-large-v3/config.json"}};  // Kimi-Audio's encoder

std::string g_catalog_dir;  // set once, by SetCatalogDir

bool HasWeights(const std::string& dir) {
  return FileExists(dir + "/model.safetensors") || FileExists(dir + "/model.safetensors.index.json");
}

bool HasPickle(const std::string& dir) {
  return FileExists(dir + "/pytorch_model.bin") || FileExists(dir + "/pytorch_model.bin.index.json");
}

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string LastComponent(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  std::array<char, PATH_MAX> real;
  if (realpath(path.c_str(), real.data()) != nullptr) path = real.data();  // "." has a name too
  return path.substr(path.rfind('/') + 1);
}

Result<ModelDir> FromDirectory(const std::string& dir) {
  ModelDir model;
  model.path = dir;
  model.name = LastComponent(dir);
  model.config_path = dir + "/config.json";
  model.has_weights = HasWeights(dir);
  if (FileExists(model.config_path)) return model;
  return BadModel(
      fmt::format("{} has no config.json, so it is not a model directory; give the directory that holds "
                  "config.json and model.safetensors",
                  dir));
}

Result<ModelDir> FromFile(const std::string& file, ModelUse use) {
  ModelDir model;
  model.path = Parent(file);
  if (file.ends_with(".gguf")) {
    model.gguf_path = file;
    model.name = LastComponent(file);
    model.has_weights = true;
    return model;
  }
  if (!file.ends_with(".json"))
    return BadModel(fmt::format("{} is neither a .gguf file nor a config.json; give the model's directory", file));
  if (use != ModelUse::kPlan)
    return BadModel(
        fmt::format("{} is a config alone, which only `sotto plan` takes; give the directory with the weights", file));
  model.config_path = file;
  model.name = LastComponent(file.ends_with("/config.json") ? model.path : file);
  model.has_weights = HasWeights(model.path);
  return model;
}

// What was written, taken apart: "owner/name@revision".
struct Name {
  std::string id, revision;  // revision "" when none was given
};

// One place where a name can be found, and why it was not.
struct Search {
  std::string cache, catalog;
  std::string missing;  // sentence part about a half-filled cache; "" otherwise
};

// In the cache, when the snapshot has what `use` needs.
bool FromCache(const Name& name, ModelUse use, Search& search, ModelDir& model) {
  const std::string repo = search.cache + "/" + RepoFolder(name.id);
  if (!IsDirectory(repo)) return false;
  const std::string revision = name.revision.empty() ? "main" : name.revision;
  const std::string commit = CachedCommit(repo, revision);
  if (commit.empty()) {
    search.missing = fmt::format("; the cache has it without a revision \"{}\", but with the commits: {}", revision,
                                 fmt::join(ListDirectory(repo + "/snapshots"), ", "));
    return false;
  }
  model.path = repo + "/snapshots/" + commit;
  model.name = name.id;
  model.config_path = model.path + "/config.json";
  model.commit = commit;
  model.has_weights = HasWeights(model.path);
  if (!FileExists(model.config_path)) {
    search.missing = fmt::format("; the cache has it without config.json, in {}", model.path);
    return false;
  }
  // A pickle goes on to ModelFiles::Open, whose error says how to convert it.
  if (use == ModelUse::kPlan || model.has_weights || HasPickle(model.path)) return true;
  search.missing = fmt::format("; the cache has its config.json but no weights, in {}", model.path);
  return false;
}

bool FromCatalog(const Name& name, const Search& search, ModelDir& model) {
  const std::string file = search.catalog + "/" + name.id + ".json";
  if (search.catalog.empty() || !name.revision.empty() || !FileExists(file)) return false;
  model = {};
  model.name = name.id;
  model.config_path = file;
  model.from_catalog = true;
  return true;
}

// All owners that have a model of this name, in the cache and in the catalogue: "owner/name".
std::set<std::string> WithAnyOwner(const std::string& name, const Search& search) {
  std::set<std::string> found;
  for (const std::string& repo : ListDirectory(search.cache)) {
    if (!repo.starts_with("models--") || !repo.ends_with("--" + name)) continue;
    const size_t owner_bytes = repo.size() - 8 - 2 - name.size();
    if (repo.size() > 8 + 2 + name.size()) found.insert(repo.substr(8, owner_bytes) + "/" + name);
  }
  for (const std::string& owner : ListDirectory(search.catalog))
    if (FileExists(search.catalog + "/" + owner + "/" + name + ".json")) found.insert(owner + "/" + name);
  std::erase_if(found, [](const std::string& id) { return !IsRepoId(id); });
  return found;
}

Result<std::string> WithOwner(const std::string& name, const Search& search) {
  if (const std::string alias = WhisperAlias(name); !alias.empty()) return alias;
  const std::set<std::string> found = WithAnyOwner(name, search);
  if (found.size() > 1)
    return BadModel(fmt::format("\"{}\" names several models: {}; give one of them", name, fmt::join(found, ", ")));
  return found.empty() ? name : *found.begin();
}

}  // namespace

std::string WhisperAlias(std::string_view name) {
  if (name == "turbo") name = "large-v3-turbo";
  if (name == "large-v1") name = "large";
  for (const std::string_view size : kSizes) {
    if (name == size) return fmt::format("openai/whisper-{}", size);
    if (name == fmt::format("whisper-{}", size)) return fmt::format("openai/{}", name);
  }
  for (const std::string_view size : {"small.en", "medium.en", "large-v2", "large-v3", "large-v3.5"})
    if (name == fmt::format("distil-{}", size)) return fmt::format("distil-whisper/{}", name);
  return "";
}

void SetCatalogDir(std::string dir) { g_catalog_dir = std::move(dir); }

std::string CatalogDir() {
  if (const char* set = std::getenv("SOTTO_CATALOG"); set != nullptr && *set != '\0') return set;
  if (!g_catalog_dir.empty()) return g_catalog_dir;
  if (const std::string exe = ExecutablePath(); !exe.empty()) {
    std::string beside = Parent(exe) + "/../share/sotto/catalog";
    if (IsDirectory(beside)) return beside;
  }
  const std::string source = SOTTO_SOURCE_DIR "/catalog";
  return IsDirectory(source) ? source : "";
}

Result<ModelDir> FindModel(const std::string& what, ModelUse use) {
  if (what.empty() || what.find('\0') != what.npos)
    return Usage("a model is missing; give a directory, a .gguf file or owner/name");
  if (IsDirectory(what)) return FromDirectory(what);
  if (FileExists(what)) return FromFile(what, use);

  Name name;
  const size_t at = what.find('@');
  name.id = what.substr(0, at);
  if (at != what.npos) name.revision = what.substr(at + 1);
  if (what.starts_with('/') || what.starts_with('.') || what.starts_with('~') || what.ends_with(".gguf") ||
      what.ends_with(".json"))
    return BadModel(fmt::format("{} does not exist; check the path, or give owner/name", what));
  if (!IsRepoId(name.id))
    return Usage(
        fmt::format("\"{}\" is neither a directory nor a model's name; a name is owner/name in letters, digits, "
                    "'-', '_' and '.'",
                    what));
  if (at != what.npos && !IsRevision(name.revision))
    return Usage(fmt::format("\"{}\" is not a revision; give a branch, a tag or a commit after the @", name.revision));

  Search search{HubCacheDir(), CatalogDir(), ""};
  if (name.id.find('/') == name.id.npos) name.id = TRY(WithOwner(name.id, search));
  ModelDir model;
  if (FromCache(name, use, search, model)) return model;
  const bool listed = FromCatalog(name, search, model);
  if (listed && use == ModelUse::kPlan) return model;
  return BadModel(fmt::format(
      "model {} was not found: no directory or file has that name, and neither has the Hugging Face cache ({}){}{}; "
      "fetch it with `sotto pull {}{}`",
      what, search.cache, search.missing,
      listed ? "; the catalogue has its config, which is enough for `sotto plan` only"
      : use == ModelUse::kPlan
          ? fmt::format(" or the catalogue ({})", search.catalog.empty() ? "not installed" : search.catalog)
          : "",
      name.id, name.revision.empty() ? "" : " --revision " + name.revision));
}

Result<Json> ReadConfig(const ModelDir& model) {
  CHECK(model.gguf_path.empty());
  Json json = TRY(ReadJson(model.config_path, Code::kBadModel));
  if (!json.is_object())
    return BadModel(fmt::format("{} is not a JSON object; fetch the file again", model.config_path));
  if (model.from_catalog) {
    const auto entry = json.find("config");
    if (entry == json.end() || !entry->is_object())
      return BadModel(fmt::format("{} has no \"config\"; reinstall the catalogue", model.config_path));
    Json config = *entry;
    for (const auto& [key, file] : kCompanions)
      if (const auto it = json.find(key); it != json.end()) config[key] = *it;
    return config;
  }
  for (const auto& [key, file] : kCompanions)
    if (const std::string path = model.path + "/" + file; !json.contains(key) && FileExists(path))
      json[key] = TRY(ReadJson(path, Code::kBadModel));
  for (const char* key : {"text_model_id", "audio_model_id"})  // "../demo-lm": a neighbour
    if (const auto it = json.find(key); it != json.end() && it->is_string())
      if (const auto id = it->get<std::string>(); id.starts_with("./") || id.starts_with("../"))
        *it = model.path + "/" + id;
  return json;
}

}  // namespace sotto
