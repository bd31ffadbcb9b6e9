#include "harness/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "harness/canvas.h"

namespace sotto {
namespace {

constexpr int kWidth = 1180, kHeight = 760;
constexpr double kLeft = 96, kTop = 92, kBottom = 700, kColumn = 232, kGap = 14, kLegend = 850;
using palette::kActivations, palette::kAlarm, palette::kAudio, palette::kCache, palette::kEmpty, palette::kFaint,
    palette::kInk, palette::kPaper, palette::kProcess, palette::kWeights;

// Neighbouring slots of one kind are one block of the picture.
struct Block {
  std::string label;
  Colour colour;
  uint64_t begin = 0, end = 0;
};

struct Kind {
  const char* label;
  Colour colour;
};

Kind KindOf(const Slot& s) {
  switch (s.role) {
    case Role::kWeight:
      switch (s.component) {
        case Component::kEncoder: return {"encoder weights", {66, 103, 172}};
        case Component::kCrossAttention: return {"cross-attention weights", {113, 150, 210}};
        case Component::kEmbedding: return {"embedding and head", {160, 186, 226}};
        default: return {"decoder weights", kWeights};
      }
    case Role::kKv:
      return s.component == Component::kCrossAttention ? Kind{"cross-attention KV", {214, 126, 44}}
                                                       : Kind{"self-attention KV", kCache};
    case Role::kActivation: return {"activations", kActivations};
    case Role::kAudio: return {"audio", kAudio};
    case Role::kStaging: return {"loading buffer", {170, 140, 110}};
    case Role::kRing: return {"layers from the disk", {190, 205, 235}};
    case Role::kMapped: return {"weights in the file", {96, 130, 182}};
    case Role::kTable: return {"tokenizer", {120, 120, 120}};
  }
  return {"other", kFaint};
}

std::vector<Block> BlocksOf(const Layout& l, int phase) {
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < l.plan.at.size(); ++id)
    if ((l.anatomy->at(id).live & (1 << phase)) != 0 && l.plan.at[id].bytes != 0) ids.push_back(id);
  std::sort(ids.begin(), ids.end(), [&](uint32_t a, uint32_t b) { return l.plan.at[a].offset < l.plan.at[b].offset; });
  std::vector<Block> blocks;
  for (const uint32_t id : ids) {
    const Kind kind = KindOf(l.anatomy->at(id));
    const Placement& p = l.plan.at[id];
    if (!blocks.empty() && blocks.back().label == kind.label && blocks.back().end == p.offset)
      blocks.back().end += p.bytes;
    else
      blocks.push_back({kind.label, kind.colour, p.offset, p.offset + p.bytes});
  }
  return blocks;
}

void DrawLegend(const Layout& l, Canvas* c) {
  std::vector<std::pair<Kind, uint64_t>> rows;
  for (uint32_t id = 0; id < l.plan.at.size(); ++id) {
    const Kind kind = KindOf(l.anatomy->at(id));
    auto row = std::find_if(rows.begin(), rows.end(),
                            [&](const auto& r) { return std::string_view(r.first.label) == kind.label; });
    if (row == rows.end()) row = rows.insert(rows.end(), {kind, 0});
    row->second += l.plan.at[id].bytes;
  }
  rows.push_back({{"process (measured bound)", kProcess}, l.plan.runtime.n});
  double y = kTop + 8;
  for (const auto& [kind, bytes] : rows) {
    c->Rect(kLegend, y - 7, 14, 14, kind.colour);
    c->Text(kLegend + 24, y, 13, kind.label, kInk);
    c->Text(kWidth - 24, y, 13, Human({bytes}), kInk, Anchor::kEnd);
    y += 26;
  }
  c->Text(kLegend, y + 12, 12, "Slots of different phases share addresses,", kFaint);
  c->Text(kLegend, y + 30, 12, "so the sizes add up to more than the total.", kFaint);
}

void Draw(const Planned& p, Canvas* c) {
  const Layout& l = p.layout;
  const uint64_t total = l.plan.total.n,
                 most = p.fits && p.budget.n < total + total / 4 ? std::max(p.budget.n, total) : total;
  const auto y_of = [&](uint64_t address) {
    return kBottom - (kBottom - kTop) * static_cast<double>(address) / static_cast<double>(most);
  };
  c->Rect(0, 0, kWidth, kHeight, kPaper);
  c->Text(24, 30, 20, fmt::format("{}: what lives when", p.dir.name), kInk);
  c->Text(24, 56, 13,
          fmt::format("weights {}, cache {}, batch {}, context {}: {} in all, peak in phase '{}'",
                      NameOf(l.choice.weights), l.choice.kv->name, l.choice.batch, l.model->info().context,
                      Human(l.plan.total), PhaseName(l.plan.peak_phase)),
          kFaint);
  for (int tick = 0; tick <= 4; ++tick) {
    const uint64_t at = most / 4 * static_cast<uint64_t>(tick);
    c->Text(kLeft - 10, y_of(at), 12, Human({at}), kFaint, Anchor::kEnd);
    c->Rect(kLeft - 6, y_of(at), 3 * (kColumn + kGap), 0.5, kEmpty);
  }
  for (int phase = 0; phase < kPhaseCount; ++phase) {
    const double x = kLeft + phase * (kColumn + kGap);
    c->Rect(x, y_of(l.plan.arena.n), kColumn, kBottom - y_of(l.plan.arena.n), kEmpty);
    c->Text(x + kColumn / 2, kTop - 14, 14,
            fmt::format("{}: {}", PhaseName(phase), Human(l.plan.live[static_cast<size_t>(phase)])), kInk,
            Anchor::kMiddle);
    for (const Block& b : BlocksOf(l, phase)) {
      const double top = y_of(b.end), height = y_of(b.begin) - top;
      c->Rect(x, top, kColumn, std::max(height - (height > 3 ? 1 : 0), 0.5), b.colour);
      const std::string label = fmt::format("{} {}", b.label, Human({b.end - b.begin}));
      if (height >= 14 && Canvas::TextWidth(label, 12) < kColumn - 8)
        c->Text(x + 8, top + height / 2, 12, label, TextOn(b.colour));
    }
    c->Rect(x, y_of(total), kColumn, y_of(l.plan.arena.n) - y_of(total), kProcess);
  }
  if (most == p.budget.n) {
    c->Rect(kLeft, y_of(p.budget.n), 3 * kColumn + 2 * kGap, 2, kAlarm);
    c->Text(kLeft + 3 * kColumn + 2 * kGap, y_of(p.budget.n) - 10, 12, "budget", kAlarm, Anchor::kEnd);
  }
  c->Text(
      kLeft, kBottom + 26, 12,
      "Height: addresses of the one block that holds everything; above it, in grey, what the process takes besides.",
      kFaint);
  DrawLegend(l, c);
}

}  // namespace

Status DrawTimeline(const Planned& planned, const std::string& path) {
  TRY(CheckPicturePath(path, "--timeline"));
  const std::unique_ptr<Canvas> canvas = MakeCanvasFor(path, kWidth, kHeight);
  Draw(planned, canvas.get());
  return WriteAtomically(path, canvas->Encode());
}

std::string TimelineSvg(const Planned& planned) {
  const std::unique_ptr<Canvas> canvas = MakeSvgCanvas(kWidth, kHeight);
  Draw(planned, canvas.get());
  return canvas->Encode();
}

}  // namespace sotto
