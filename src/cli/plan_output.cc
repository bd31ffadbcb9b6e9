#include "cli/plan_output.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace sotto::cli {
namespace {

// "largest context", "most audio" …
constexpr std::string_view kLargest[] = {"largest context", "most audio", "largest batch", "widest beam"};
constexpr std::string_view kLimits[] = {"memory", "model", "none"};

Json OrNull(const auto& value) { return value ? Json(*value) : Json(nullptr); }
Json BytesOrNull(const std::optional<Bytes>& b) { return b ? Json(b->n) : Json(nullptr); }

Json AnswerJson(const Answer& a) {
  return {{"value", OrNull(a.value)},
          {"total_bytes", a.value || a.limit == Limit::kNothing ? Json(a.total.n) : Json(nullptr)},
          {"limit", kLimits[static_cast<size_t>(a.limit)]},
          {"next_bytes", a.value                     ? BytesOrNull(a.next)
                         : a.limit == Limit::kMemory ? Json(a.total.n)
                                                     : Json(nullptr)}};
}

std::string ValueText(const Answer& a) {
  return a.value ? std::to_string(*a.value) : a.limit == Limit::kNothing ? "any" : "none";
}

std::string BudgetText(const Planned& p) { return fmt::format("{} bytes ({})", p.budget.n, Human(p.budget)); }

// A field of a CSV line; quoted where it must be.
std::string Field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

// A name in lines of at most `width`, broken behind '/', '-' and '_', else anywhere.
std::vector<std::string> NameLines(const std::string& name, size_t width) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < name.size();) {
    size_t end = std::min(name.size(), at + width);
    const size_t slash = name.find('/', at), soft = name.find_last_of("/-_", end - 1);
    if (slash < end)
      end = slash + 1;
    else if (end < name.size() && soft != std::string::npos && soft > at)
      end = soft + 1;
    lines.push_back(name.substr(at, end - at));
    at = end;
  }
  return lines;
}

}  // namespace

std::string SolveText(const Solution& s, const Planned& p) {
  const Answer& best = s.answers[s.best];
  const std::string_view unit = UnitOf(s.variable);
  const std::string kinds = fmt::format("{} weights, {} cache", NameOf(best.choice.weights), best.choice.kv->name);
  std::string out = fmt::format("{}: {} in {}: ", p.dir.name, kLargest[static_cast<size_t>(s.variable)], BudgetText(p));
  if (best.limit == Limit::kNothing)
    out += fmt::format("any length\n{}: {} bytes in all; {}\n", kinds, best.total.n, s.range.why);
  else if (!best.value)
    out += fmt::format("none\n{} {} take {} bytes with {}\n", s.range.least, unit, best.total.n, kinds);
  else if (best.limit == Limit::kModel)
    out += fmt::format("{} {}\n{}: {} bytes in all; memory is not the limit: {}\n", *best.value, unit, kinds,
                       best.total.n, s.range.why);
  else
    out += fmt::format("{} {}\n{}: {} bytes in all; {} {} take {}, {} more than the budget\n", *best.value, unit, kinds,
                       best.total.n, *best.value + 1, unit, best.next->n, best.next->n - p.budget.n);
  out += fmt::format("\n  {:<10}{:<8}{:>12}{:>18}{:>20}\n", "weights", "cache", unit, "total, bytes", "with one more");
  for (size_t i = 0; i < s.answers.size(); ++i) {
    const Answer& a = s.answers[i];
    const bool none = !a.value && a.limit == Limit::kMemory;  // then the total is that of the least
    out +=
        fmt::format("{} {:<10}{:<8}{:>12}{:>18}{:>20}\n", i == s.best && p.fits ? "*" : " ", NameOf(a.choice.weights),
                    a.choice.kv->name, ValueText(a), none ? "-" : std::to_string(a.total.n),
                    none     ? fmt::format("needs {}", a.total.n)
                    : a.next ? std::to_string(a.next->n)
                             : "-");
  }
  if (p.fits && s.answers.size() > 1 && !s.range.endless)
    out += fmt::format("* the most precise that holds the usual {} {}, or else the one that goes furthest\n", s.usual,
                       unit);
  return out;
}

Json SolveJson(const Solution& s) {
  Json choices = Json::array();
  for (size_t i = 0; i < s.answers.size(); ++i) {
    Json choice = AnswerJson(s.answers[i]);
    choice["weights"] = NameOf(s.answers[i].choice.weights);
    choice["kv"] = s.answers[i].choice.kv->name;
    choice["best"] = i == s.best;
    choices.push_back(std::move(choice));
  }
  Json j = AnswerJson(s.answers[s.best]);
  j["variable"] = NameOf(s.variable);
  j["unit"] = UnitOf(s.variable);
  j["model_limit"] = s.range.endless ? Json(nullptr) : Json(s.range.most);
  j["model_limit_reason"] = s.range.why;
  j["choices"] = std::move(choices);
  return j;
}

std::string PrecisionText(const Precisions& all, const Planned& p) {
  std::string out = fmt::format("{}: which precision fits {}, batch {}, context {}\n\n", p.dir.name, BudgetText(p),
                                p.layout.choice.batch, p.layout.model->info().context);
  out += fmt::format("  {:<10}{:<8}{:>18}{:>18}  {}\n", "weights", "cache", "weights, bytes", "total, bytes", "fits");
  for (size_t i = 0; i < all.rows.size(); ++i) {
    const PrecisionRow& r = all.rows[i];
    const uint64_t total = r.sums.total, budget = p.budget.n;
    out += fmt::format("{} {:<10}{:<8}{:>18}{:>18}  {}{}\n", all.best == i ? "*" : " ", NameOf(r.choice.weights),
                       r.choice.kv->name, r.sums.weights, total,
                       r.fits ? fmt::format("yes, {} left", Human({budget - total}))
                              : fmt::format("no, {} missing", Human({total - budget})),
                       r.above_stored ? fmt::format("; gains nothing, stored as {}", p.stored.Name()) : "");
  }
  if (all.best) out += "* the most precise that fits\n";
  return out;
}

Json PrecisionJson(const Precisions& all, const Planned& p) {
  Json list = Json::array();
  for (size_t i = 0; i < all.rows.size(); ++i) {
    const PrecisionRow& r = all.rows[i];
    list.push_back({{"weights", NameOf(r.choice.weights)},
                    {"kv", r.choice.kv->name},
                    {"weights_bytes", r.sums.weights},
                    {"kv_cache_bytes", r.sums.kv},
                    {"total_bytes", r.sums.total},
                    {"fits", r.fits},
                    {"missing_bytes", r.fits ? 0 : r.sums.total - p.budget.n},
                    {"above_stored", r.above_stored},
                    {"best", all.best == i}});
  }
  return list;
}

std::string CompareText(const Comparison& c, int width) {
  constexpr size_t kLeast = 12, kMost = 18, kGap = 2;
  size_t label = 0;
  for (const auto& [name, cells] : c.rows) label = std::max(label, name.size());
  std::string out;
  for (size_t first = 0; first < c.models.size();) {
    // As many columns as go into the width; each as wide as its cells, and a name wider than that has several lines.
    std::vector<size_t> widths;
    size_t used = label, lines = 0;
    std::vector<std::vector<std::string>> heads;
    for (size_t i = first; i < c.models.size(); ++i) {
      size_t wide = std::clamp(c.models[i].size(), kLeast, kMost);
      for (const auto& [name, cells] : c.rows) wide = std::max(wide, cells[i].size());
      if (i > first && used + kGap + wide > static_cast<size_t>(width)) break;
      used += kGap + wide;
      widths.push_back(wide);
      heads.push_back(NameLines(c.models[i], wide));
      lines = std::max(lines, heads.back().size());
    }
    const auto line = [&](const std::string& name, auto cell) {
      out += fmt::format("{:<{}}", name, label);
      for (size_t k = 0; k < widths.size(); ++k) out += fmt::format("{:>{}}", cell(k), widths[k] + kGap);
      out += "\n";
    };
    if (first > 0) out += "\n";
    for (size_t row = 0; row < lines; ++row)
      line("", [&](size_t k) {
        const size_t skip = lines - heads[k].size();  // names stand at the bottom of their lines
        return row < skip ? std::string() : heads[k][row - skip];
      });
    for (const auto& row : c.rows) line(row.first, [&](size_t k) { return row.second[first + k]; });
    first += widths.size();
  }
  return out;
}

int TerminalWidth() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 100;
  return std::clamp<int>(size.ws_col, 80, 120);
}

std::string CsvHeader() {
  return "model,weights,kv,context,batch,beam,audio_seconds,weights_bytes,kv_cache_bytes,activation_bytes,audio_bytes,"
         "table_bytes,runtime_bytes,total_bytes,fits,budget_bytes\r\n";
}

std::string CsvLines(const Planned& p, const Grid& grid) {
  std::string out;
  for (size_t b = 0; b < grid.batches.size(); ++b)
    for (size_t i = 0; i < grid.contexts.size(); ++i) {
      const Sums& s = grid.at(b, i);
      out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\r\n", Field(p.dir.name),
                         NameOf(p.layout.choice.weights), p.layout.choice.kv->name, grid.contexts[i], grid.batches[b],
                         p.request.beam, AudioSeconds(p), s.weights, s.kv, s.activations, s.audio, s.tables, s.runtime,
                         s.total, s.total <= p.budget.n, p.budget.n);
    }
  return out;
}

}  // namespace sotto::cli
