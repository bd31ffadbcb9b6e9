// sotto tokenize: text on standard input to token ids, and back.
#include <fmt/format.h>

#include <iostream>
#include <iterator>

#include "cli/options.h"
#include "text/tokenizer.h"
#include "weights/model_dir.h"

namespace sotto::cli {
namespace {

struct Options {
  std::string model;
  bool decode = false, no_special = false, json = false;
};

Status Tokenize(const Options& o) {
  const ModelDir dir = TRY(FindModel(o.model, ModelUse::kPlan));
  if (dir.path.empty()) return BadModel(dir.name + " has no tokenizer here; fetch it with: sotto pull " + dir.name);
  const TokenizerSize size = TRY(Tokenizer::Measure(dir.path));
  std::vector<std::byte> memory(size.bytes());
  const Tokenizer tokenizer = TRY(Tokenizer::Open(dir.path, size, memory));
  const std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  std::vector<int32_t> ids;
  if (!o.decode) {
    TRY(tokenizer.Encode(text, !o.no_special, &ids));
    fmt::print("{}\n", Json{{"ids", ids}}.dump());
    return {};
  }
  const Json j = TRY(ParseJson(text, "standard input", Code::kBadInput));
  const Json& list = j.is_object() && j.contains("ids") ? j["ids"] : j;
  if (!list.is_array()) return BadInput("standard input is neither a JSON list of ids nor {\"ids\": [...]}");
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

}  // namespace

void AddTokenize(CLI::App* root, Commands* commands) {
  auto o = std::make_shared<Options>();
  CLI::App* app = root->add_subcommand("tokenize", "Text on standard input to token ids, or back with --decode");
  app->add_option("MODEL", o->model, "A directory, or owner/name in the Hugging Face cache")->required();
  app->add_flag("--decode", o->decode, "Token ids on standard input (a JSON list, or {\"ids\": [...]}) to text");
  app->add_flag("--no-special", o->no_special,
                "Special tokens in the text are plain text; with --decode they are left out");
  app->add_flag("--json", o->json, "One JSON document on standard output");
  app->footer("Example:\n  echo -n ' hello' | sotto tokenize models/demo-asr --json");
  commands->push_back({app, [o] {
                         const Status done = Tokenize(*o);
                         return done.ok() ? 0 : Report(done.error(), o->json);
                       }});
}

}  // namespace sotto::cli
