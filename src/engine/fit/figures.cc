#include "engine/fit/figures.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "engine/fit/record.h"

namespace sotto {
namespace {

constexpr const char* kSchema = "sotto.quality/1";
constexpr size_t kMostFigures = 1000;

Result<Figure> FigureOf(const Reader& r) {
  Figure f;
  const std::string key = TRY(r.Text("measure"));
  const auto facts = std::find_if(kMeasures.begin(), kMeasures.end(), [&](const auto& m) { return m.key == key; });
  if (facts == kMeasures.end()) return r.Broken("measure");
  f.measure = static_cast<Measure>(facts - kMeasures.begin());
  f.value = TRY(r.Number("value"));
  if (f.value < 0) return r.Broken("value");
  f.weights = TRY(r.Text("weights"));
  f.kv = TRY(r.Text("kv"));
  const Reader on = TRY(r.Object("on"));
  f.on = {TRY(on.Text("name")), TRY(on.Whole("bytes", 0, INT64_MAX)), TRY(on.Text("xxh3"))};
  f.count = TRY(r.Whole("count", 1, INT64_MAX));
  if (f.measure == kKl) f.against = TRY(r.Text("against"));
  f.state = TRY(r.Text("state"));
  TRY(r.Text("sotto"));
  return f;
}

Json FigureJson(const Figure& f) {
  Json j = {{"measure", kMeasures[f.measure].key},
            {"value", f.value},
            {"weights", f.weights},
            {"kv", f.kv},
            {"on", {{"name", f.on.name}, {"bytes", f.on.bytes}, {"xxh3", f.on.xxh3}}},
            {"count", f.count}};
  if (f.measure == kKl) j["against"] = f.against;
  j["state"] = f.state;
  j["sotto"] = SOTTO_VERSION;
  return j;
}

}  // namespace

Result<MeasuredOn> MeasuredOnFile(const std::string& path) {
  const FileState s = TRY(StateOf(path, Code::kBadInput));
  return MeasuredOn{path.substr(path.rfind('/') + 1), static_cast<int64_t>(s.bytes), ChecksumText(s.checksum)};
}

std::string FiguresPath(const ModelDir& dir) {
  return dir.gguf_path.empty() ? dir.path + "/" + kFiguresName : dir.gguf_path + "." + kFiguresName;
}

Result<std::vector<Figure>> ReadFigures(const ModelDir& dir) {
  const std::string path = FiguresPath(dir);
  if (!FileExists(path)) return std::vector<Figure>();
  const Json j = TRY(ReadJson(path, Code::kBadModel));
  const Reader whole(j, path, "what `sotto eval --store` writes");
  if (!j.is_object() || TRY(whole.Text("schema")) != kSchema) return whole.Broken("schema");
  const std::vector<Reader> list = TRY(whole.List("figures"));
  if (list.size() > kMostFigures) return whole.Broken("figures");
  std::vector<Figure> figures;
  for (const Reader& r : list) figures.push_back(TRY(FigureOf(r)));
  return figures;
}

Status StoreFigure(const ModelDir& dir, Figure figure) {
  const MeasureFacts& facts = kMeasures[figure.measure];
  if (!std::isfinite(figure.value) || figure.value < 0)
    return BadModel(
        fmt::format("the {} of {} is no finite number and was not stored; is the model broken?", facts.name, dir.name));
  std::vector<Figure> figures = TRY(ReadFigures(dir));
  figure.state = TRY(StateOfModel(dir));
  std::erase_if(figures, [&](const Figure& f) {
    return f.measure == figure.measure && f.weights == figure.weights && f.kv == figure.kv &&
           f.on.name == figure.on.name;
  });
  if (figures.size() == kMostFigures)
    return Failed(
        fmt::format("{} holds {} figures, which is enough; delete it or some", FiguresPath(dir), kMostFigures));
  figures.push_back(std::move(figure));
  Json list = Json::array();
  for (const Figure& f : figures) list.push_back(FigureJson(f));
  const Json j = {{"schema", kSchema}, {"figures", std::move(list)}};
  return WriteAtomically(FiguresPath(dir), j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Status CheckStore(const ModelDir& dir) {
  TRY(ReadFigures(dir));
  const std::string path = FiguresPath(dir), folder = path.substr(0, path.rfind('/') + 1);
  if (::access(folder.empty() ? "." : folder.c_str(), W_OK) == 0) return {};
  return Failed(fmt::format("cannot write {}: {}; copy the model, or leave out --store", path, std::strerror(errno)));
}

Result<ByMeasure> ParseFloors(const std::string& text) {
  const auto wrong = [&](std::string_view part) {
    return Usage(
        fmt::format("--quality-floor takes a KL in nats, or kl=, perplexity=, wer=, accuracy= and numbers of at "
                    "least 0, each once, with commas between; not '{}'",
                    part.substr(0, 40)));
  };
  ByMeasure floors;
  for (std::string_view rest = text;;) {
    const std::string_view part = rest.substr(0, rest.find(','));
    const size_t equals = part.find('=');
    const std::string_view name = equals == part.npos ? kMeasures[kKl].name : part.substr(0, equals);
    const std::string_view number = equals == part.npos ? part : part.substr(equals + 1);
    const auto facts = std::find_if(kMeasures.begin(), kMeasures.end(), [&](const auto& m) { return m.name == name; });
    double value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (facts == kMeasures.end() || error != std::errc() || end != number.data() + number.size() ||
        !std::isfinite(value) || value < 0)
      return wrong(part);
    std::optional<double>& floor = floors[static_cast<size_t>(facts - kMeasures.begin())];
    if (floor) return wrong(part);
    floor = value;
    if (part.size() == rest.size()) return floors;
    rest.remove_prefix(part.size() + 1);
  }
}

std::string FloorsText(const ByMeasure& floors) {
  constexpr std::array<const char*, kMeasures.size()> kTitles = {"a KL", "a perplexity", "a word error rate",
                                                                 "an accuracy"};
  std::string text;
  for (size_t m = 0; m < floors.size(); ++m)
    if (floors[m])
      text += fmt::format("{} {} of at {} {:g}{}", text.empty() ? " with" : " and", kTitles[m],
                          kMeasures[m].more ? "least" : "most", *floors[m], kMeasures[m].unit);
  return text;
}

Json MeasuredJson(const ByMeasure& values) {
  Json j = Json::object();
  for (size_t m = 0; m < values.size(); ++m)
    if (values[m]) j[kMeasures[m].key] = *values[m];
  return j;
}

}  // namespace sotto
