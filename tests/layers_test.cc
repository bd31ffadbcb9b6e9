// The rules of the tree that a compiler doesn't see (docs/architecture.md): the order of the folders, the one folder
// that each library stands in, the length of a file. The checker works on a map of path to text, so it is tested on a
// made-up tree, too.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace sotto {
namespace {

using Tree = std::map<std::string, std::string>;  // path from the repository's root -> text

// Each folder may include itself and what stands before it.
const std::vector<std::string> kFolders = {"base", "plan",   "codec",  "ops",     "weights", "kv", "audio",
                                           "text", "models", "engine", "harness", "server",  "cli"};

// Who may include a library's headers: prefixes of paths under src/. An empty list: everyone.
struct Library {
  std::string header;  // a name, or a directory that ends in '/'
  std::vector<std::string> users;
};
const std::vector<Library> kLibraries = {
    {"sndfile.h", {"audio/"}},
    {"sndfile.hh", {"audio/"}},
    {"soxr.h", {"audio/"}},
    {"httplib.h", {"server/"}},
    {"openssl/", {"cli/pull"}},
    {"curl/", {"cli/pull"}},
    {"CLI/", {"cli/"}},
    {"histedit.h", {"cli/"}},
    {"stb/", {"harness/", "cli/"}},
    {"stb_image_write.h", {"harness/", "cli/"}},
    {"xxhash.h", {"codec/"}},
    {"fmt/", {}},
    {"nlohmann/", {}},
    {"rapidjson/", {"base/"}},
    {"simde/", {"codec/", "ops/", "kv/"}},
    {"sanitizer/", {"audio/"}},  // the compiler's own, in tests
    {"sys/", {}},
    {"linux/", {}},
    {"arpa/", {"server/"}},
    {"netinet/", {"server/"}},
};

constexpr int kMaxLines = 500;

size_t Rank(const std::string& folder) {
  return static_cast<size_t>(std::find(kFolders.begin(), kFolders.end(), folder) - kFolders.begin());
}

std::string FolderOf(std::string_view path) { return std::string(path.substr(0, path.find('/'))); }

bool IsTest(std::string_view path) { return path.ends_with("_test.cc") || path.starts_with("tests/"); }

// "" when `path` ("ops/cpu/gemm.cc", under src/) may include "header", else why not.
std::string AgainstTheOrder(const std::string& path, const std::string& header) {
  const std::string from = FolderOf(path), to = FolderOf(header);
  if (to == "sotto")
    return Rank(from) >= Rank("engine") ? "" : "the public headers are for engine/ and what stands below it";
  if (header.find('/') == std::string::npos || Rank(to) == kFolders.size())
    return "write it from src/: \"folder/file.h\" with a folder of docs/architecture.md";
  if (Rank(to) > Rank(from)) return fmt::format("{}/ stands below {}/", to, from);
  return "";
}

std::string AgainstTheLibraries(const std::string& path, const std::string& header) {
  if ((header.starts_with("gtest/") || header.starts_with("gmock/")) && !IsTest(path))
    return "GoogleTest is for _test.cc";
  if (header.starts_with("gtest/") || header.starts_with("gmock/")) return "";
  for (const Library& library : kLibraries) {
    if (!(library.header.ends_with('/') ? header.starts_with(library.header) : header == library.header)) continue;
    const bool allowed = library.users.empty() || std::any_of(library.users.begin(), library.users.end(),
                                                              [&](const auto& user) { return path.starts_with(user); });
    return allowed ? "" : fmt::format("it belongs to {}", fmt::join(library.users, ", "));
  }
  return header.find('/') == std::string::npos
             ? ""
             : "name it in docs/dependencies.md and in kLibraries of tests/layers_test.cc";
}

// One sentence for each offence, "path:line: …".
std::vector<std::string> Offences(const Tree& tree) {
  static const std::regex include(R"(^\s*#\s*include\s*(["<])([^">]+)[">])");
  static const std::regex unfinished(
      "\\b(TO"
      "DO|FIX"
      "ME)\\b");
  std::vector<std::string> found;
  for (const auto& [path, text] : tree) {
    const bool in_src = path.starts_with("src/");
    const std::string inside = in_src ? path.substr(4) : path;
    if (in_src && Rank(FolderOf(inside)) == kFolders.size())
      found.push_back(
          fmt::format("{}: no folder of docs/architecture.md; add it to the list at its place or move the file", path));
    std::istringstream lines(text);
    std::string line;
    int number = 0;
    while (std::getline(lines, line)) {
      ++number;
      if (!in_src) continue;
      if (std::regex_search(line, unfinished))
        found.push_back(fmt::format("{}:{}: finish it, or write an issue", path, number));
      std::smatch match;
      if (line.find("include") == std::string::npos || !std::regex_search(line, match, include)) continue;
      const std::string header = match[2];
      const std::string why = match[1] == "\"" ? AgainstTheOrder(inside, header) : AgainstTheLibraries(inside, header);
      if (!why.empty()) found.push_back(fmt::format("{}:{}: includes {}: {}", path, number, header, why));
    }
    if (number > kMaxLines)
      found.push_back(fmt::format("{}: {} lines; at most {}, so split it", path, number, kMaxLines));
  }
  return found;
}

// What people wrote in this repository: sources and scripts, not data and not what was built or downloaded.
Tree ReadRepository(const std::filesystem::path& root) {
  namespace fs = std::filesystem;
  Tree tree;
  for (const char* top : {"src", "include", "tests", "bench", "python", "training", "scripts", "cmake"}) {
    if (!fs::is_directory(root / top)) continue;
    for (auto at = fs::recursive_directory_iterator(root / top); at != fs::recursive_directory_iterator(); ++at) {
      const std::string name = at->path().filename().string(), kind = at->path().extension().string();
      if (at->is_directory() && (name.starts_with('.') || name == "work" || name == "build" || name == "__pycache__")) {
        at.disable_recursion_pending();
        continue;
      }
      const bool source =
          kind == ".h" || kind == ".cc" || kind == ".cu" || kind == ".py" || kind == ".sh" || kind == ".cmake";
      if (!at->is_regular_file() || !(source || (kind.empty() && std::string_view(top) == "scripts"))) continue;
      std::ostringstream text;
      text << std::ifstream(at->path()).rdbuf();
      tree[fs::relative(at->path(), root).string()] = text.str();
    }
  }
  return tree;
}

TEST(Layers, ThisRepositoryKeepsItsRules) {
  const Tree tree = ReadRepository(SOTTO_SOURCE_DIR);
  ASSERT_GT(tree.size(), 20u) << "too few sources under " SOTTO_SOURCE_DIR;
  ASSERT_TRUE(tree.contains("src/base/result.h"));
  const auto offences = Offences(tree);
  EXPECT_TRUE(offences.empty()) << fmt::format("{}", fmt::join(offences, "\n"));
}

TEST(Layers, AFolderMayIncludeItselfAndWhatStandsAboveIt) {
  EXPECT_THAT(Offences({{"src/base/a.h", "#include <vector>\n#include <sys/mman.h>\n#include <fmt/format.h>\n"},
                        {"src/kv/a.cc", "#include \"kv/store.h\"\n#include \"ops/backend.h\"\n#include \"base/a.h\"\n"},
                        {"src/kv/a_test.cc", "#include <gtest/gtest.h>\n#include \"kv/store.h\"\n"},
                        {"src/cli/main.cc",
                         "#include \"sotto/sotto.h\"\n#include \"engine/session.h\"\n#include <CLI/CLI.hpp>\n"},
                        {"src/cli/pull_client.cc", "#include <curl/curl.h>\n#include <openssl/sha.h>\n"},
                        {"src/audio/reader.cc", "#include <sndfile.h>\n#include <soxr.h>\n"}}),
              testing::ElementsAre());
}

TEST(Layers, EveryKindOfOffenceIsFound) {
  const std::pair<const char*, const char*> cases[] = {
      {"src/base/a.cc", "#include \"plan/anatomy.h\"\n"},
      {"src/ops/cpu/a.cc", "#include \"weights/store.h\"\n"},
      {"src/engine/a.cc", "  #  include \"cli/options.h\"\n"},
      {"src/plan/a_test.cc", "#include \"models/whisper.h\"\n"},
      {"src/kv/a.cc", "#include \"store.h\"\n"},
      {"src/kv/a.cc", "#include \"../ops/backend.h\"\n"},
      {"src/kv/a.cc", "#include \"sotto/sotto.h\"\n"},
      {"src/utils/a.cc", "int x;\n"},
      {"src/engine/a.cc", "#include <sndfile.h>\n"},
      {"src/audio/a.cc", "#include <httplib.h>\n"},
      {"src/cli/plan.cc", "#include <openssl/sha.h>\n"},
      {"src/engine/a.cc", "#include <CLI/CLI.hpp>\n"},
      {"src/models/a.cc", "#include <soxr.h>\n"},
      {"src/plan/a.cc", "#include <stb/stb_image_write.h>\n"},
      {"src/base/a.cc", "#include <gtest/gtest.h>\n"},
      {"src/base/a.cc", "#include <boost/any.hpp>\n"},
      {"src/base/a.cc",
       "int x;  // TO"
       "DO: more\n"},
      {"src/base/a.cc",
       "// FIX"
       "ME\n"},
  };
  for (const auto& [path, text] : cases) EXPECT_EQ(Offences({{path, text}}).size(), 1u) << path << ": " << text;
}

TEST(Layers, FilesHaveAtMost500Lines) {
  std::string text;
  for (int i = 0; i < kMaxLines; ++i) text += "\n";
  EXPECT_EQ(Offences({{"src/base/a.cc", text}, {"scripts/a", text}}).size(), 0u);
  EXPECT_EQ(Offences({{"src/base/a.cc", text + "x"}, {"scripts/a", text + "x"}}).size(), 2u);
}

TEST(Layers, AnOffenceNamesFileLineAndReason) {
  EXPECT_THAT(Offences({{"src/ops/a.cc", "\n#include \"kv/store.h\"\n"}}),
              testing::ElementsAre("src/ops/a.cc:2: includes kv/store.h: kv/ stands below ops/"));
}

}  // namespace
}  // namespace sotto
