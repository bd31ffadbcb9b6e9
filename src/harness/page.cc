#include "harness/page.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/json.h"
#include "harness/canvas.h"
#include "harness/plot.h"
#include "harness/timeline.h"

namespace sotto {
namespace {

constexpr int kWide = 1080, kNarrow = 360;  // the plot on a desk, the plot on a phone

// JSON inside a script element: nothing in it can end the element.
std::string ScriptJson(const Json& j) {
  std::string out;
  for (const char c : j.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

// A model's name may go into the next line behind these.
std::string Breakable(std::string_view name) {
  std::string out;
  for (size_t end = 0; !name.empty(); name.remove_prefix(end)) {
    end = std::min(name.find_first_of("/-_"), name.size() - 1) + 1;
    out += EscapeMarkup(name.substr(0, end)) + (end < name.size() ? "<wbr>" : "");
  }
  return out;
}

std::string Row(std::string_view tag, const std::vector<std::string>& cells, std::string_view row_class = "") {
  std::string out = row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row_class);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (tag == "th")
      out += fmt::format("<th scope=\"col\">{}</th>", Breakable(cells[i]));
    else
      out +=
          i == 0 ? "<th scope=\"row\">" + EscapeMarkup(cells[i]) + "</th>" : "<td>" + EscapeMarkup(cells[i]) + "</td>";
  }
  return out + "</tr>\n";
}

std::string Verdict(const Planned& p) {
  const uint64_t total = p.layout.plan.total.n, budget = p.budget.n;
  const std::string what = p.request.budget ? "the budget of" : "what is free here,";
  return p.fits ? fmt::format("<p class=\"verdict yes\">{} fits {} {}: {} left.</p>\n", Human({total}), what,
                              Human({budget}), Human({budget - total}))
                : fmt::format(
                      "<p class=\"verdict no\">{} does not fit {} {}: {} missing. Smallest budget that works: "
                      "{} ({} bytes).</p>\n",
                      Human({total}), what, Human({budget}), Human({total - std::min(total, budget)}),
                      Human(p.smallest), p.smallest.n);
}

std::string PartsTable(const Planned& p) {
  std::string out = "<h3>What it takes</h3>\n<div class=\"scroll\"><table class=\"parts\">\n<thead>" +
                    Row("th", {"component", "bytes", "", "note"}) + "</thead>\n<tbody>\n";
  for (const PlanRow& r : PlanRows(p)) {
    const bool part = r.name.starts_with(' ');
    out += Row("td", {part ? r.name.substr(2) : r.name, Grouped(r.bytes), Human({r.bytes}), r.note},
               part                ? "part"
               : r.name == "total" ? "total"
                                   : "");
  }
  return out + "</tbody></table></div>\n";
}

// The grid as a table, and the controls that a script brings to life. All figures are plans.
std::string Calculator(const Planned& p, const Grid& grid) {
  const uint64_t unit = p.layout.plan.total.n >= kGiB ? kGiB : kMiB;
  const std::string_view name = unit == kGiB ? "GiB" : "MiB";
  Json points = Json::array();
  for (const Sums& s : grid.points)
    points.push_back({s.weights, s.kv, s.activations, s.audio, s.tables, s.runtime, s.total});
  const Json data = {{"contexts", grid.contexts}, {"batches", grid.batches},
                     {"points", points},          {"own", {grid.own_batch, grid.own_context}},
                     {"budget", p.budget.n},      {"unit", unit}};
  std::string out = "<h3>Other contexts and batches</h3>\n<div class=\"calculator\" hidden>\n";
  out += fmt::format(
      "<label>context <input type=\"range\" class=\"context\" min=\"0\" max=\"{}\" "
      "value=\"{}\"><output></output></label>"
      "\n<label>batch <input type=\"range\" class=\"batch\" min=\"0\" max=\"{}\" "
      "value=\"{}\"><output></output></label>\n"
      "<label>budget, {} <input type=\"number\" class=\"budget\" min=\"0.01\" step=\"any\" "
      "value=\"{:.4g}\"></label>\n",
      grid.contexts.size() - 1, grid.own_context, grid.batches.size() - 1, grid.own_batch, name,
      static_cast<double>(p.budget.n) / static_cast<double>(unit));
  out +=
      "<p class=\"answer verdict\" aria-live=\"polite\"></p>\n<div class=\"bar\" aria-hidden=\"true\"><i "
      "class=\"process\">"
      "</i><i class=\"weights\"></i><i class=\"activations\"></i><i class=\"cache\"></i><b></b></div>\n"
      "<dl class=\"key\"></dl>\n</div>\n";
  out += fmt::format(
      "<p class=\"hint\">Total in {}; shaded: fits the budget.</p>\n<div class=\"scroll\"><table class=\"grid\">\n",
      name);
  std::vector<std::string> head = {"context"};
  for (const int64_t b : grid.batches) head.push_back(fmt::format("batch {}", b));
  out += "<thead>" + Row("th", head) + "</thead>\n<tbody>\n";
  for (size_t i = 0; i < grid.contexts.size(); ++i) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", Grouped(static_cast<uint64_t>(grid.contexts[i])));
    for (size_t b = 0; b < grid.batches.size(); ++b) {
      const uint64_t total = grid.at(b, i).total;
      out += fmt::format("<td class=\"{}{}\">{:.{}f}</td>", total <= p.budget.n ? "fits" : "over",
                         b == grid.own_batch && i == grid.own_context ? " own" : "",
                         static_cast<double>(total) / static_cast<double>(unit), unit == kGiB ? 2 : 1);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n<script type=\"application/json\">" + ScriptJson(data) + "</script>\n";
}

std::string PrecisionTable(const Planned& p, const Precisions& all) {
  std::string out = "<h3>Other precisions</h3>\n<div class=\"scroll\"><table class=\"precisions\">\n<thead>" +
                    Row("th", {"weights", "cache", "weights, bytes", "total, bytes", "", "fits"}) +
                    "</thead>\n<tbody>\n";
  const Choice& own = p.layout.choice;
  for (const PrecisionRow& r : all.rows) {
    const uint64_t total = r.sums.total, budget = p.budget.n;
    out += Row("td",
               {NameOf(r.choice.weights), std::string(r.choice.kv->name), Grouped(r.sums.weights), Grouped(total),
                Human({total}), r.fits ? Human({budget - total}) + " left" : Human({total - budget}) + " missing"},
               fmt::format("{}{}", r.fits ? "fits" : "over",
                           r.choice.weights == own.weights && r.choice.kv == own.kv ? " own" : ""));
  }
  return out + "</tbody></table></div>\n";
}

Result<std::string> Section(const Planned& p, int64_t most) {
  const ModelInfo& info = p.layout.model->info();
  const Plot plot = TRY(MakePlot(p, most));
  constexpr int64_t kManyDoublings = 64;
  const bool short_range = plot.grid.contexts.back() < kManyDoublings * plot.grid.contexts.front();
  const Grid grid = TRY(MakeGrid(p, most, short_range ? 2 : 1, {1, 2, 4, 8, 16}));
  const Precisions precisions = TRY(ComparePrecisions(p));
  std::string out = "<section>\n<h2>" + EscapeMarkup(p.dir.name) + "</h2>\n";
  out += fmt::format("<p>{}, {} parameters{}; {}.</p>\n", info.type, Grouped(p.layout.anatomy->Parameters()),
                     p.request.tp > 1 ? fmt::format(" on each of {} ranks", p.request.tp) : "", WorkloadText(p));
  out += Verdict(p) + PartsTable(p);
  out += "<h3>Memory against context</h3>\n<figure class=\"wide\">" + PlotSvg(plot, kWide) +
         "</figure>\n<figure class=\"narrow\">" + PlotSvg(plot, kNarrow) + "</figure>\n";
  out += Calculator(p, grid) + PrecisionTable(p, precisions);
  out += "<h3>What lives when</h3>\n<figure class=\"scroll\">" + TimelineSvg(p) + "</figure>\n</section>\n";
  return out;
}

std::string CompareTable(const std::vector<const Planned*>& plans) {
  const Comparison c = Compare(plans);
  std::vector<std::string> head = {""};
  head.insert(head.end(), c.models.begin(), c.models.end());
  std::string out = "<section>\n<h2>Side by side</h2>\n<div class=\"scroll\"><table>\n<thead>" + Row("th", head) +
                    "</thead>\n<tbody>\n";
  for (const auto& [label, cells] : c.rows) {
    const bool part = label.starts_with(' ');
    std::vector<std::string> row = {part ? label.substr(2) : label};
    row.insert(row.end(), cells.begin(), cells.end());
    out += Row("td", row, part ? "part" : label == "total" ? "total" : "");
  }
  return out + "</tbody></table></div>\n</section>\n";
}

}  // namespace

Status WritePage(const std::vector<const Planned*>& plans, int64_t most, const std::string& path) {
  const std::string title = plans.size() == 1 ? plans[0]->dir.name + ": memory" : "Memory of models, side by side";
  std::string page =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      // Whatever a model's name holds, nothing is ever fetched.
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src "
      "'unsafe-inline'\">\n";
  page +=
      fmt::format("<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n", EscapeMarkup(title), kPageStyle);
  page += fmt::format("<h1>{}</h1>\n", plans.size() == 1 ? "What it takes to run" : "Memory of models, side by side");
  if (plans.size() > 1) page += CompareTable(plans);
  for (const Planned* p : plans) page += TRY(Section(*p, most));
  page += fmt::format(
      "<footer>Made by sotto {}: every figure is a plan, and what is planned is what the process takes. 1 GiB is 2^30 "
      "bytes.</footer>\n</main>\n<script>{}</script>\n</body>\n</html>\n",
      SOTTO_VERSION, kPageScript);
  return WriteAtomically(path, page);
}

}  // namespace sotto
