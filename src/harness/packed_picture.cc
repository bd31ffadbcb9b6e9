#include "harness/packed_picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/file.h"
#include "harness/canvas.h"

namespace sotto {
namespace {

using palette::kEmpty, palette::kFaint, palette::kInk, palette::kPaper;

constexpr double kMargin = 20, kGap = 28, kRow = 19, kSmall = 11, kHead = 86, kHeader = 44;
constexpr double kLongestSide = 16000;

// Matrices of one list of layers, or those outside of all.
struct Group {
  std::string name;
  std::vector<std::string> rows, columns;
  std::map<std::pair<size_t, size_t>, std::vector<const PackedTensor*>> cells;  // several: experts
};

size_t PlaceOf(const std::string& name, std::vector<std::string>* names) {
  const auto it = std::find(names->begin(), names->end(), name);
  if (it != names->end()) return static_cast<size_t>(it - names->begin());
  names->push_back(name);
  return names->size() - 1;
}

bool IsNumber(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "model.layers.3.mlp.experts.7.up_proj.weight" is {"model.layers", "3", "mlp.experts.*.up_proj"}.
struct Place {
  std::string group, layer, role;
};
Place PlaceOf(std::string_view name) {
  if (name.ends_with(".weight")) name.remove_suffix(7);
  Place p;
  for (bool more = true; more;) {
    const size_t dot = name.find('.');
    std::string part(name.substr(0, dot));
    more = dot != name.npos;
    if (more) name.remove_prefix(dot + 1);
    const bool number = IsNumber(part);
    if (number && p.layer.empty()) {
      p.layer = std::move(part);
      continue;
    }
    std::string& to = p.layer.empty() ? p.group : p.role;
    to += (to.empty() ? "" : ".") + (number ? "*" : part);
  }
  return p;
}

std::vector<Group> GroupsOf(const Packed& packed) {
  std::vector<Group> groups;
  Group outside;
  for (const PackedTensor& t : packed.tensors) {
    if (!t.packed()) continue;
    const Place p = PlaceOf(t.name);
    if (p.role.empty()) {
      outside.cells[{outside.rows.size(), 0}].push_back(&t);
      outside.rows.push_back(p.layer.empty() ? p.group : p.group + "." + p.layer);
      continue;
    }
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.name == p.group; });
    if (group == groups.end()) group = groups.insert(groups.end(), Group{p.group, {}, {}, {}});
    group->cells[{PlaceOf(p.layer, &group->rows), PlaceOf(p.role, &group->columns)}].push_back(&t);
  }
  outside.columns.resize(1);
  if (!outside.rows.empty()) groups.insert(groups.begin(), std::move(outside));
  return groups;
}

// One quantity of all matrices.
struct Measure {
  const char *name, *format;
  Colour most;
  double (*of)(const PackedTensor&);
  double least = 0, largest = 0;  // over all cells
};

// The mean over what stands in a cell; what is no number counts as 0.
double Mean(const Measure& m, const std::vector<const PackedTensor*>& cell) {
  double sum = 0;
  for (const PackedTensor* t : cell) sum += std::isfinite(m.of(*t)) ? m.of(*t) : 0;
  return sum / static_cast<double>(cell.size());
}

Colour Between(Colour a, Colour b, double share) {
  const auto mix = [share](uint8_t x, uint8_t y) { return static_cast<uint8_t>(std::lround(x + share * (y - x))); };
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

class Picture {
 public:
  Picture(const Packed& packed, std::string title) : title_(std::move(title)), groups_(GroupsOf(packed)) {
    const auto bits = [](const PackedTensor& t) {
      return 8 * static_cast<double>(t.bytes) / static_cast<double>(std::max<uint64_t>(t.elements, 1));
    };
    measures_.push_back({"bits a weight", "{:.2f}", {46, 84, 150}, bits});
    measures_.push_back({"entropy, bits", "{:.2f}", {46, 84, 150}, [](const PackedTensor& t) { return t.entropy; }});
    if (std::any_of(packed.tensors.begin(), packed.tensors.end(), [](const auto& t) { return t.error_db > 0; }))
      measures_.push_back(
          {"error, dB below the matrix", "{:.1f}", {38, 116, 66}, [](const PackedTensor& t) { return t.error_db; }});
    if (packed.predicted_kl >= 0)
      measures_.push_back({"predicted KL, thousandths of a nat", "{:.2f}", {176, 74, 20}, [](const PackedTensor& t) {
                             return 1000 * std::max(t.predicted_kl, 0.0);
                           }});
    summary_ = fmt::format("{:.3f} bits a weight, {:.2f}x below fp16", packed.bits(), 16 / packed.bits());
    if (packed.predicted_kl >= 0) summary_ += fmt::format(", predicted KL {:.4f} nats a token", packed.predicted_kl);
    for (Measure& m : measures_) FindRange(&m);
    size_t columns = 1, rows = 0;
    for (const Group& g : groups_) {
      columns = std::max(columns, g.columns.size());
      rows += g.rows.size();
      for (const std::string& row : g.rows) label_ = std::max(label_, Canvas::TextWidth(row, kSmall) + 10);
      for (const std::string& role : g.columns) cell_ = std::max(cell_, Canvas::TextWidth(Last(role), kSmall) + 8);
    }
    block_ = static_cast<double>(columns) * cell_;
    for (const Measure& m : measures_) block_ = std::max(block_, Canvas::TextWidth(Title(m), 12));
    width_ = 2 * kMargin + label_ + static_cast<double>(measures_.size()) * (block_ + kGap) - kGap;
    width_ = std::max(width_, 2 * kMargin + Canvas::TextWidth(summary_, 12));
    height_ = kHead + static_cast<double>(groups_.size()) * kHeader + static_cast<double>(rows) * kRow + kMargin;
  }

  bool empty() const { return groups_.empty(); }
  double width() const { return width_; }
  double height() const { return height_; }

  void Draw(Canvas* c) const {
    c->Rect(0, 0, width_, height_, kPaper);
    c->Text(kMargin, 24, 18, title_, kInk);
    c->Text(kMargin, 46, 12, summary_, kFaint);
    for (size_t i = 0; i < measures_.size(); ++i) c->Text(Left(i), 74, 12, Title(measures_[i]), kInk);
    double y = kHead;
    for (const Group& g : groups_) {
      c->Text(kMargin, y + kHeader - 12, kSmall, g.name, kFaint);
      for (size_t i = 0; i < measures_.size(); ++i) Header(g, Left(i), y, c);
      y += kHeader;
      for (size_t r = 0; r < g.rows.size(); ++r, y += kRow) {
        c->Text(kMargin + label_ - 10, y + kRow / 2, kSmall, g.rows[r], kInk, Anchor::kEnd);
        for (size_t i = 0; i < measures_.size(); ++i) Row(g, r, measures_[i], Left(i), y, c);
      }
    }
  }

 private:
  static std::string Last(const std::string& role) { return role.substr(role.rfind('.') + 1); }
  static std::string First(const std::string& role) { return role.substr(0, std::min(role.rfind('.'), role.size())); }
  static std::string Title(const Measure& m) {
    return fmt::format("{}: {} to {}", m.name, fmt::format(fmt::runtime(m.format), m.least),
                       fmt::format(fmt::runtime(m.format), m.largest));
  }
  double Left(size_t measure) const { return kMargin + label_ + static_cast<double>(measure) * (block_ + kGap); }

  void FindRange(Measure* m) const {
    m->least = 1e30;
    for (const Group& g : groups_)
      for (const auto& [at, cell] : g.cells) {
        m->least = std::min(m->least, Mean(*m, cell));
        m->largest = std::max(m->largest, Mean(*m, cell));
      }
  }

  // Roles in two lines: the module once for neighbours that share it, then what they are in it.
  void Header(const Group& g, double left, double y, Canvas* c) const {
    for (size_t i = 0; i < g.columns.size(); ++i) {
      const std::string& role = g.columns[i];
      const double x = left + static_cast<double>(i) * cell_;
      c->Text(x + cell_ / 2, y + kHeader - 12, kSmall, Last(role), kFaint, Anchor::kMiddle);
      if (role.rfind('.') == role.npos || (i > 0 && First(g.columns[i - 1]) == First(role))) continue;
      size_t end = i + 1;
      while (end < g.columns.size() && First(g.columns[end]) == First(role)) ++end;
      const double w = static_cast<double>(end - i) * cell_;
      if (Canvas::TextWidth(First(role), kSmall) > w) continue;
      c->Text(x + w / 2, y + kHeader - 30, kSmall, First(role), kFaint, Anchor::kMiddle);
      c->Rect(x + 3, y + kHeader - 22, w - 6, 1, kEmpty);
    }
  }

  void Row(const Group& g, size_t r, const Measure& m, double left, double y, Canvas* c) const {
    for (size_t i = 0; i < g.columns.size(); ++i) {
      const auto cell = g.cells.find({r, i});
      if (cell == g.cells.end()) continue;
      const double value = Mean(m, cell->second), range = m.largest - m.least;
      const Colour colour = Between({232, 237, 244}, m.most, range > 0 ? (value - m.least) / range : 0.5);
      const double x = left + static_cast<double>(i) * cell_;
      c->Rect(x, y, cell_ - 1, kRow - 1, colour);
      c->Text(x + (cell_ - 1) / 2, y + kRow / 2, kSmall, fmt::format(fmt::runtime(m.format), value), TextOn(colour),
              Anchor::kMiddle);
    }
  }

  std::string title_, summary_;
  std::vector<Group> groups_;
  std::vector<Measure> measures_;
  double label_ = 80, cell_ = 44, block_ = 0, width_ = 0, height_ = 0;
};

}  // namespace

Status DrawPacked(const Packed& packed, const std::string& title, const std::string& path) {
  const Picture picture(packed, title);
  if (picture.empty()) return Usage(title + " holds no packed matrix; --plot draws what sotto pack has made");
  if (picture.width() > kLongestSide || picture.height() > kLongestSide)
    return Usage(title + " has too many matrices for a picture; --json lists them");
  const auto canvas =
      MakeCanvasFor(path, static_cast<int>(std::ceil(picture.width())), static_cast<int>(std::ceil(picture.height())));
  picture.Draw(canvas.get());
  return WriteAtomically(path, canvas->Encode());
}

}  // namespace sotto
