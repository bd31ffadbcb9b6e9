#include "harness/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/file.h"
#include "harness/canvas.h"

namespace sotto {
namespace {

using palette::kActivations, palette::kAlarm, palette::kCache, palette::kEmpty, palette::kFaint, palette::kInk,
    palette::kPaper, palette::kProcess, palette::kWeights;
using Points = std::vector<Canvas::Point>;

constexpr int kAlone = 1080, kBeside = 600, kPhone = 500;  // width of a panel; below kPhone labels are short
constexpr double kMargin = 20, kLeft = 62, kRight = 66, kLine = 17, kSmall = 12;

struct Box {
  double x, y, w, h;
  bool Meets(const Box& o) const { return x < o.x + o.w && o.x < x + w && y < o.y + o.h && o.y < y + h; }
};

int HeightOf(int width) { return width < kPhone ? 520 : width < 800 ? 500 : 660; }

std::vector<std::string> Wrapped(const std::string& text, double width, double size) {
  std::vector<std::string> lines(1);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    const std::string longer = lines.back().empty() ? word : lines.back() + " " + word;
    if (!lines.back().empty() && Canvas::TextWidth(longer, size) > width)
      lines.push_back(word);
    else
      lines.back() = longer;
    at = end + 1;
  }
  return lines;
}

// What lies below `top` (a larger y) of a closed polygon.
Points BelowTop(const Points& in, double top) {
  Points out;
  for (size_t i = 0; i < in.size(); ++i) {
    const Canvas::Point &a = in[i], &b = in[(i + 1) % in.size()];
    if (a.y >= top) out.push_back(a);
    if ((a.y >= top) != (b.y >= top)) out.push_back({a.x + (b.x - a.x) * (top - a.y) / (b.y - a.y), top});
  }
  return out;
}

// The step of 1, 2 or 5 times a power of ten that divides `span` into at most `most` parts.
double NiceStep(double span, int most) {
  const double power = std::pow(10, std::floor(std::log10(span / most)));
  for (const double step : {1.0, 2.0, 5.0})
    if (span / (step * power) <= most) return step * power;
  return 10 * power;
}

class Panel {
 public:
  Panel(const Plot& plot, Box at, Canvas* canvas)
      : plot_(plot), grid_(plot.grid), own_(plot.grid.own_batch), at_(at), c_(canvas) {
    // As high as the plan's batch goes, or higher for other batches and the budget; but where the budget is small, not so high
    // that it is a streak at the bottom.
    const size_t last = grid_.contexts.size() - 1;
    const auto budget = static_cast<double>(plot.planned->budget.n);
    const auto end = static_cast<double>(grid_.at(own_, last).total);
    const auto most = static_cast<double>(grid_.at(grid_.batches.size() - 1, last).total);
    const double highest = std::max(end, std::min({budget, 1.25 * most, 4 * end}));
    top_bytes_ = std::min(1.1 * highest, std::max(2.5 * budget, 1.25 * static_cast<double>(grid_.at(own_, 0).total)));
    unit_ = top_bytes_ >= kGiB ? kGiB : kMiB;
    log_ = grid_.contexts.back() > 32 * grid_.contexts.front();
  }

  void Draw() {
    c_->Rect(at_.x, at_.y, at_.w, at_.h, kPaper);
    Header();
    EachLevel([this](double, double y) { c_->Rect(field_.x, y - 0.5, field_.w, 1, kEmpty); });
    Areas();
    Axes();
    for (size_t b = 0; b < grid_.batches.size(); ++b) Total(b);
    Budget();
  }

 private:
  double X(int64_t context) const {
    const auto f = [this](int64_t v) { return log_ ? std::log2(static_cast<double>(v)) : static_cast<double>(v); };
    const double first = f(grid_.contexts.front()), last = f(grid_.contexts.back());
    return field_.x + field_.w * (last > first ? (f(context) - first) / (last - first) : 0.5);
  }
  double Y(double bytes) const { return field_.y + field_.h * (1 - bytes / top_bytes_); }
  double Y(uint64_t bytes) const { return Y(static_cast<double>(bytes)); }

  void Lines(const std::string& text, double size, Colour colour, double* y) {
    for (const std::string& line : Wrapped(text, at_.w - 2 * kMargin, size)) {
      c_->Text(at_.x + kMargin, *y, size, line, colour);
      *y += size * 1.4;
    }
  }

  void Header() {
    const Planned& p = *plot_.planned;
    const ModelInfo& info = p.layout.model->info();
    double y = at_.y + 26;
    const double size = at_.w < kPhone ? 15 : 18;
    std::string name = p.dir.name;
    while (Canvas::TextWidth(name, size) > at_.w - 2 * kMargin) name = name.substr(0, name.size() - 4) + "...";
    Lines(name, size, kInk, &y);
    Lines(fmt::format(
              "Memory against context; weights {}, cache {}{}{}. Areas: batch {}; lines: the total of each batch.",
              NameOf(p.layout.choice.weights), p.layout.choice.kv->name,
              info.type == "audio-llm" ? fmt::format(", {:g} s of audio", AudioSeconds(p)) : "",
              p.request.beam > 1 ? fmt::format(", {} beams", p.request.beam) : "", grid_.batches[own_]),
          kSmall, kFaint, &y);
    std::string batches, reach;
    for (size_t b = 0; b < grid_.batches.size(); ++b) {
      const std::optional<int64_t>& value = plot_.reach[b].value;
      batches += fmt::format("{}{}", b == 0 ? "" : ", ", grid_.batches[b]);
      reach += fmt::format("{}{}", b == 0 ? "" : "; ", value ? Grouped(static_cast<uint64_t>(*value)) : "none");
    }
    const bool above = static_cast<double>(p.budget.n) > top_bytes_;
    Lines(fmt::format("Largest context in {}, {}{}, for batch {}: {}.",
                      p.request.budget ? "the budget" : "what is free now", Human(p.budget),
                      above ? " (above this picture)" : "", batches, reach),
          kSmall, kInk, &y);
    y += 6;
    double x = at_.x + kMargin;
    for (const auto& [label, colour] : {std::pair{"KV cache", kCache},
                                        {"activations, audio", kActivations},
                                        {"weights", kWeights},
                                        {"process, tables", kProcess}}) {
      const double width = 20 + Canvas::TextWidth(label, kSmall) + 18;
      if (x + width > at_.x + at_.w) {
        x = at_.x + kMargin;
        y += kLine + 2;
      }
      c_->Rect(x, y - 6, 12, 12, colour);
      c_->Text(x + 18, y, kSmall, label, kInk);
      x += width;
    }
    y += 56;  // room for the labels of lines that leave at the top
    field_ = {at_.x + kLeft, y, at_.w - kLeft - kRight, at_.y + at_.h - 58 - y};
  }

  // From the bottom up, in the order of how little they change.
  void Areas() {
    const size_t n = grid_.contexts.size();
    std::vector<double> below(n, 0);
    const auto area = [&](Colour colour, auto part) {
      Points corners;
      for (size_t i = 0; i < n; ++i) corners.push_back({X(grid_.contexts[i]), Y(below[i])});
      for (size_t i = n; i-- > 0;) {
        below[i] += static_cast<double>(part(grid_.at(own_, i)));
        corners.push_back({X(grid_.contexts[i]), Y(below[i])});
      }
      c_->Polygon(BelowTop(corners, field_.y), colour);
    };
    area(kProcess, [](const Sums& s) { return s.runtime + s.tables; });
    area(kWeights, [](const Sums& s) { return s.weights; });
    area(kActivations, [](const Sums& s) { return s.activations + s.audio; });
    area(kCache, [](const Sums& s) { return s.kv; });
  }

  template <class F>
  void EachLevel(F draw) const {
    const double step = NiceStep(top_bytes_ / static_cast<double>(unit_), 8);
    for (double v = 0; v * static_cast<double>(unit_) <= top_bytes_; v += step)
      draw(v, Y(v * static_cast<double>(unit_)));
  }

  void Axes() {
    EachLevel([this](double v, double y) {
      c_->Rect(field_.x - 5, y - 0.5, 5, 1, kFaint);
      c_->Text(field_.x - 9, y, kSmall, fmt::format("{:.10g}", v), kFaint, Anchor::kEnd);
    });
    c_->Text(field_.x - 9, field_.y - 16, kSmall, unit_ == kGiB ? "GiB" : "MiB", kFaint, Anchor::kEnd);
    c_->Rect(field_.x - 1, field_.y, 1, field_.h, kFaint);
    const double floor = field_.y + field_.h;
    c_->Rect(field_.x, floor, field_.w, 1, kFaint);
    const int64_t least = grid_.contexts.front(), most = grid_.contexts.back();
    const int64_t apart = std::max<int64_t>(1, std::llround(NiceStep(static_cast<double>(most), 8)));
    std::vector<int64_t> ticks;
    for (int64_t v = log_ ? static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(least)))
                          : (least + apart - 1) / apart * apart;
         v < most; v = log_ ? 2 * v : v + apart)
      ticks.push_back(v);
    ticks.push_back(most);
    // Every tick has a label, or every second, or third: counted from the last, and where the last but one is too near not it.
    const auto width = [](int64_t v) { return Canvas::TextWidth(Grouped(static_cast<uint64_t>(v)), kSmall) + 10; };
    const double gap = ticks.size() < 3 ? field_.w : X(ticks[1]) - X(ticks[0]);
    const auto stride = std::max<size_t>(1, static_cast<size_t>(std::ceil(width(most) / gap)));
    for (size_t i = 0; i < ticks.size(); ++i) {
      const double x = X(ticks[i]);
      c_->Rect(x - 0.5, floor, 1, 5, kFaint);
      const bool near = i + 1 < ticks.size() && x + (width(ticks[i]) + width(most)) / 2 > X(most);
      if ((ticks.size() - 1 - i) % stride == 0 && !near)
        c_->Text(x, floor + 16, kSmall, Grouped(static_cast<uint64_t>(ticks[i])), kFaint, Anchor::kMiddle);
    }
    if (X(ticks[0]) - field_.x > (width(least) + width(ticks[0])) / 2)
      c_->Text(field_.x, floor + 16, kSmall, Grouped(static_cast<uint64_t>(least)), kFaint, Anchor::kMiddle);
    c_->Text(field_.x + field_.w / 2, floor + 38, kSmall, "context, positions", kFaint, Anchor::kMiddle);
  }

  // The line of a batch, up to where it leaves the field; its name stands there.
  void Total(size_t batch) {
    Points line;
    for (size_t i = 0; i < grid_.contexts.size(); ++i) {
      const Canvas::Point p{X(grid_.contexts[i]), Y(grid_.at(batch, i).total)};
      if (p.y < field_.y) {
        if (line.empty()) return;  // above the picture from the first
        const Canvas::Point& a = line.back();
        line.push_back({a.x + (p.x - a.x) * (field_.y - a.y) / (p.y - a.y), field_.y});
        break;
      }
      line.push_back(p);
    }
    c_->Line(line, batch == own_ ? 2.2 : 1.3, kInk);
    for (size_t i = 1; i < line.size(); ++i)  // labels keep away from it
      for (double t = 0; t < 1;
           t += 4 / std::max(4.0, std::hypot(line[i].x - line[i - 1].x, line[i].y - line[i - 1].y)))
        lines_.push_back({line[i - 1].x + t * (line[i].x - line[i - 1].x) - 1,
                          line[i - 1].y + t * (line[i].y - line[i - 1].y) - 1, 2, 2});
    End(batch, line.back());
  }

  // What a line is called, and the context where it meets the budget: at its end, beside the field or above it.
  void End(size_t batch, Canvas::Point end) {
    const Answer& reach = plot_.reach[batch];
    const std::string number = Crosses(reach) ? Grouped(static_cast<uint64_t>(*reach.value)) : "";
    const std::string shorter = std::to_string(grid_.batches[batch]);
    const bool beside = end.x > field_.x + field_.w - 1;
    // The whole name; moved where others stand; its number alone, without the context.
    std::vector<std::pair<std::string, std::string>> texts = {{shorter, ""}};
    if (at_.w > kPhone) texts = {{"batch " + shorter, number}, {shorter, number}, {shorter, ""}};
    for (const auto& [name, context] : texts) {
      const double width = std::max(Canvas::TextWidth(name, kSmall), Canvas::TextWidth(context, kSmall));
      const double height = context.empty() ? kLine - 2 : 2 * kLine - 4;
      for (const double dy : {0.0, -5.0, 5.0, -10.0, 10.0, -17.0, 17.0}) {
        const Box box = beside ? Box{end.x + 6, end.y - height / 2 + dy, width, height}
                               : Box{end.x - width / 2, field_.y - height - 2, width, height};
        if (!Free(box, beside ? 0 : 5) || box.x + box.w > at_.x + at_.w) continue;
        taken_.push_back(box);
        const double x = beside ? box.x : end.x;
        const Anchor anchor = beside ? Anchor::kStart : Anchor::kMiddle;
        c_->Text(x, box.y + 7, kSmall, name, kInk, anchor);
        if (!context.empty()) c_->Text(x, box.y + 7 + kLine - 3, kSmall, context, kAlarm, anchor);
        return;
      }
    }
  }

  void Budget() {
    const double y = Y(plot_.planned->budget.n);
    if (y < field_.y) return;
    for (double x = field_.x; x < field_.x + field_.w; x += 12)
      c_->Line(Points{{x, y}, {std::min(x + 8, field_.x + field_.w), y}}, 1.6, kAlarm);
    const std::string text =
        fmt::format("{} {}", plot_.planned->request.budget ? "budget" : "free now", Human(plot_.planned->budget));
    const double width = Canvas::TextWidth(text, kSmall) + 8, left = field_.x + 8,
                 right = field_.x + field_.w - width - 8;
    const auto clear = [&](const Box& box) {
      return box.y >= field_.y && box.y + box.h <= field_.y + field_.h &&
             std::none_of(lines_.begin(), lines_.end(), [&](const Box& b) { return b.Meets(box); });
    };
    Box box{left, y + 6, width, 15};  // unless another place crosses no line
    for (const Box& other : {Box{left, y - 20, width, 15}, Box{right, y + 6, width, 15}, Box{right, y - 20, width, 15}})
      if (!clear(box)) box = other;
    c_->Rect(box.x, box.y, box.w, box.h, kPaper);
    c_->Text(box.x + 4, box.y + 8, kSmall, text, kAlarm);
    for (const Answer& a : plot_.reach) {
      if (!Crosses(a)) continue;
      c_->Polygon(Diamond(X(*a.value), y, 5.5), kPaper);
      c_->Polygon(Diamond(X(*a.value), y, 4), kAlarm);
    }
  }

  // Whether a batch's line meets the budget inside the field.
  bool Crosses(const Answer& a) const {
    return a.limit == Limit::kMemory && a.value && *a.value >= grid_.contexts.front() &&
           *a.value <= grid_.contexts.back() && Y(plot_.planned->budget.n) >= field_.y;
  }

  static Points Diamond(double x, double y, double r) { return {{x - r, y}, {x, y - r}, {x + r, y}, {x, y + r}}; }

  bool Free(const Box& box, double apart) const {
    const Box wide{box.x - apart, box.y - 1, box.w + 2 * apart, box.h + 2};
    return std::none_of(taken_.begin(), taken_.end(), [&](const Box& b) { return b.Meets(wide); });
  }

  const Plot& plot_;
  const Grid& grid_;
  const size_t own_;
  const Box at_;
  Canvas* c_;
  Box field_{};
  std::vector<Box> taken_, lines_;  // by labels; by lines, piece by piece
  double top_bytes_ = 1;
  uint64_t unit_ = kGiB;
  bool log_ = true;
};

}  // namespace

Result<Plot> MakePlot(const Planned& p, int64_t most) {
  constexpr int kSteps = 8;
  Plot plot{&p, {}, {}};
  plot.grid = TRY(MakeGrid(p, most, kSteps, {1, 2, 4, 8}));
  const Range range = TRY(RangeOf(p, Variable::kContext));
  for (const int64_t batch : plot.grid.batches) {
    Choice choice = p.layout.choice;
    choice.batch = batch;
    plot.reach.push_back(TRY(Reach(p, Variable::kContext, range, choice)));
  }
  return plot;
}

Status DrawPlots(std::span<const Plot> plots, const std::string& path) {
  CHECK(!plots.empty());
  const int columns = plots.size() == 1 ? 1 : 2, width = columns == 1 ? kAlone : kBeside, height = HeightOf(width);
  const int rows = (static_cast<int>(plots.size()) + columns - 1) / columns;
  const std::unique_ptr<Canvas> canvas = MakeCanvasFor(path, columns * width, rows * height);
  canvas->Rect(0, 0, columns * width, rows * height, kPaper);
  for (size_t i = 0; i < plots.size(); ++i) {
    const int column = static_cast<int>(i) % columns, row = static_cast<int>(i) / columns;
    Panel(plots[i], Box{1.0 * width * column, 1.0 * height * row, 1.0 * width, 1.0 * height}, canvas.get()).Draw();
  }
  return WriteAtomically(path, canvas->Encode());
}

std::string PlotSvg(const Plot& plot, int width) {
  const int height = HeightOf(width);
  const std::unique_ptr<Canvas> canvas = MakeSvgCanvas(width, height);
  Panel(plot, Box{0, 0, 1.0 * width, 1.0 * height}, canvas.get()).Draw();
  return canvas->Encode();
}

}  // namespace sotto
