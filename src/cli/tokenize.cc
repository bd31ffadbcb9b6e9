// sotto tokenize: text on standard input to token ids, and back.
#include <fmt/format.h>

#include <iostream>
#include <iterator>

#include "cli/options.h"
#include "text/token_source.h"
#include "text/tokenizer.h"
#include "weights/gguf.h"
#include "weights/model_dir.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string model;
  bool decode = false, no_special = false, add_special = false, lines = false, json = false;
};

Status ToIds(const Tokenizer& tokenizer, const Options& o, const std::string& text) {
  std::vector<int32_t> ids;
  TRY(tokenizer.Encode(text, {.parse_special = !o.no_special, .add_special = o.add_special}, &ids));
  fmt::print("{}\n", Json{{"ids", ids}}.dump());
  return {};
}

Status ToText(const Tokenizer& tokenizer, const Options& o, const std::string& text) {
  const Json j = TRY(ParseJson(text, "standard input", Code::kBadInput));
  const Json& list = j.is_object() && j.contains("ids") ? j["ids"] : j;
  if (!list.is_array()) return BadInput("standard input is neither a JSON list of ids nor {\"ids\": [...]}");
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() >= tokenizer.vocab_size())
      return BadInput(
          fmt::format("standard input holds something that is not a token id below {}", tokenizer.vocab_size()));
    ids.push_back(id.get<int32_t>());
  }
  const std::string decoded = tokenizer.Decode(ids, o.no_special);
  if (o.json)
    fmt::print("{}\n", Json{{"text", decoded}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  else
    fmt::print("{}\n", decoded);
  return {};
}

// Of a model, or of a directory that holds a tokenizer and no more.
Result<Tokenizer> OpenTokenizer(const std::string& model, std::vector<std::byte>* memory) {
  std::string path = model;
  if (!HasTokenizer(path)) {
    const ModelDir dir = TRY(FindModel(model, ModelUse::kPlan));
    if (!dir.gguf_path.empty()) {
      const GgufFiles gguf = TRY(GgufFiles::Open(dir.gguf_path));
      const TokenizerSize size = TRY(Tokenizer::Measure(gguf));
      memory->resize(size.bytes());
      return Tokenizer::Open(gguf, size, *memory);
    }
    if (dir.path.empty()) return BadModel(dir.name + " has no tokenizer here; fetch it with: sotto pull " + dir.name);
    path = dir.path;
  }
  const TokenizerSize size = TRY(Tokenizer::Measure(path));
  memory->resize(size.bytes());
  return Tokenizer::Open(path, size, *memory);
}

Status Tokenize(const Options& o) {
  std::vector<std::byte> memory;
  const Tokenizer tokenizer = TRY(OpenTokenizer(o.model, &memory));
  const auto convert = o.decode ? ToText : ToIds;
  std::string text;
  if (o.lines) {
    while (std::getline(std::cin, text)) TRY(convert(tokenizer, o, text));
    return {};
  }
  text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  return convert(tokenizer, o, text);
}

}  // namespace

void AddTokenize(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("tokenize", "Text on standard input to token ids, or back with --decode");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache")->required();
  app->add_flag("--decode", o->decode, "Token ids on standard input (a JSON list, or {\"ids\": [...]}) to text");
  app->add_flag("--no-special", o->no_special,
                "Special tokens in the text are plain text; with --decode they are left out");
  app->add_flag("--add-special", o->add_special, "Put around the text what the tokenizer's files say (BOS, EOS)");
  app->add_flag("--lines", o->lines, "Each line of standard input is a text or a list of its own");
  app->add_flag("--json", o->json, "One JSON document on standard output, or one for each of --lines");
  app->footer("Example:\n  echo -n ' hello' | sotto tokenize models/demo-asr --json");
  commands->push_back({app, [o] {
                         const Status done = Tokenize(*o);
                         return done.ok() ? 0 : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
