// sotto_bench_packed tables|speed: what the plane code (codec/planes.h) reaches, in Markdown or with --json.
//
//   tables   bits a weight of random matrices and of a model's linears: INT8 and halves without loss, beside their entropy, zstd and
//            Huffman-coded exponents; rates at the error of GGUF's own types, errors at their rates
//   speed    one row times weights that stream from memory, packed and not, in turns; decoding in the cache
#include "packed_bench.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

namespace sotto {
namespace {

std::string Text(const Json& v) {
  if (v.is_null()) return "-";
  if (v.is_boolean()) return v.get<bool>() ? "yes" : "NO";
  if (v.is_number_float()) return fmt::format("{:.3f}", v.get<double>());
  return v.is_string() ? v.get<std::string>() : v.dump();
}

void Print(const Json& rows) {
  std::vector<std::vector<std::string>> cells(rows.size() + 1);
  for (const auto& [name, value] : rows[0].items()) cells[0].push_back(name);
  for (size_t r = 0; r < rows.size(); ++r)
    for (const auto& value : rows[r]) cells[r + 1].push_back(Text(value));
  std::vector<size_t> width(cells[0].size());
  for (const auto& row : cells)
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  for (size_t r = 0; r < cells.size(); ++r) {
    for (size_t c = 0; c < cells[r].size(); ++c)
      fmt::print("| {}{}{} ", c == 0 ? cells[r][c] : "", std::string(width[c] - cells[r][c].size(), ' '),
                 c == 0 ? "" : cells[r][c]);
    fmt::print("|\n");
    for (size_t c = 0; r == 0 && c < width.size(); ++c)
      fmt::print("|{}{}", std::string(width[c] + 1, '-'), c == 0 ? "-" : ":");
    if (r == 0) fmt::print("|\n");
  }
}

int Measure(const PackedBench& o, const std::string& what, bool json) {
  const Result<Json> tables = what == "tables" ? MeasureTables(o) : MeasureSpeed(o);
  if (!tables.ok()) {
    fmt::print(stderr, "{}\n", tables.error().message);
    return static_cast<int>(tables.error().code);
  }
  if (json) fmt::print("{}\n", tables->dump(1));
  for (const auto& [title, rows] : tables->items()) {
    if (json || rows.empty()) continue;
    fmt::print("\n**{}**\n\n", title);
    Print(rows);
  }
  return 0;
}

}  // namespace
}  // namespace sotto

int main(int argc, char** argv) {
  sotto::PackedBench o;
  std::string what;
  bool json = false;
  CLI::App app("Bits and speed of packed weights; see docs/packed.md");
  app.add_option("WHAT", what)->required()->check(CLI::IsMember({"tables", "speed"}));
  app.add_option("--model", o.model, "a model directory, for tables; \"\": random matrices only");
  app.add_option("--size", o.sizes, "sides of random matrices")->check(CLI::Range(64, 16384));
  app.add_option("--threads", o.threads)->check(CLI::Range(1, 256));
  app.add_option("--zstd-level", o.zstd_level)->check(CLI::Range(1, 22));
  app.add_option("--mib", o.stream_mib, "of weights, for speed")->check(CLI::Range(1, 16384));
  app.add_option("--seconds", o.seconds, "of rounds, for speed")->check(CLI::Range(0.0, 600.0));
  app.add_flag("--json", json);
  CLI11_PARSE(app, argc, argv);
  if (o.sizes.empty()) o.sizes = what == "tables" ? std::vector<int64_t>{2048, 4096} : std::vector<int64_t>{4096};
  if (o.threads == 0) o.threads = sotto::Threads::Available();
  return sotto::Measure(o, what, json);
}
