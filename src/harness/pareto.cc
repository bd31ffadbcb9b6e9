#include "harness/pareto.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/file.h"
#include "harness/canvas.h"

namespace sotto {
namespace {

constexpr int kWidth = 1180, kHeight = 720;
constexpr double kLeft = 96, kRight = 1140, kTop = 96, kBottom = 610;
constexpr double kLeastKl = 1e-5;          // what is drawn as none
constexpr double kSmall = 4, kLarge = 13;  // radius of the slowest and of the fastest
using palette::kAlarm, palette::kCache, palette::kEmpty, palette::kFaint, palette::kInk, palette::kPaper,
    palette::kProcess, palette::kWeights;

void Disc(Canvas* c, double x, double y, double r, Colour colour) {
  constexpr int kCorners = 32;
  std::vector<Canvas::Point> corners;
  for (int i = 0; i < kCorners; ++i) {
    const double angle = 2 * M_PI * i / kCorners;
    corners.push_back({x + r * std::cos(angle), y + r * std::sin(angle)});
  }
  c->Polygon(corners, colour);
}

class Picture {
 public:
  Picture(const Fitted& fitted, Bytes budget, bool speeds) : f_(fitted), speeds_(speeds) {
    for (const Candidate& c : f_.fitting) {
      least_ = std::min(least_, static_cast<double>(c.total.n));
      most_ = std::max(most_, static_cast<double>(c.total.n));
      low_ = std::min(low_, std::max(c.kl, kLeastKl));
      high_ = std::max(high_, c.kl);
      slow_ = std::min(slow_, c.speed.tokens_per_second);
      fast_ = std::max(fast_, c.speed.tokens_per_second);
    }
    if (static_cast<double>(budget.n) < 1.5 * most_) most_ = std::max(most_, static_cast<double>(budget.n));
    const double edge = (most_ - least_) * 0.06 + 1;
    least_ -= edge, most_ += edge;
    low_ /= 1.8, high_ *= 1.8;
  }

  void Draw(Canvas* c, const std::string& title, Bytes budget) const {
    c->Rect(0, 0, kWidth, kHeight, kPaper);
    c->Text(24, 30, 20, title, kInk);
    c->Text(24, 56, 13, Chosen(), kFaint);
    DrawAxes(c);
    if (static_cast<double>(budget.n) < most_) {
      c->Rect(X(budget.n) - 1, kTop, 2, kBottom - kTop, kAlarm);
      c->Text(X(budget.n) - 8, kTop + 10, 12, "budget", kAlarm, Anchor::kEnd);
    }
    std::vector<const Candidate*> front;
    for (const Candidate& k : f_.fitting)
      if (k.pareto)
        front.push_back(&k);
      else
        Disc(c, X(k.total.n), Y(k.kl), Radius(k), kProcess);
    std::sort(front.begin(), front.end(), [](const auto* a, const auto* b) { return a->total < b->total; });
    std::vector<Canvas::Point> line;  // of the front by memory and quality alone
    for (double best = INFINITY; const Candidate* k : front)
      if (k->kl < best) {
        if (!line.empty()) line.push_back({X(k->total.n), line.back().y});
        line.push_back({X(k->total.n), Y(best = k->kl)});
      }
    if (line.size() > 1) c->Line(line, 1.5, kWeights);
    for (const Candidate* k : front) Disc(c, X(k->total.n), Y(k->kl), Radius(*k), kWeights);
    const Candidate& chosen = f_.choice();
    Disc(c, X(chosen.total.n), Y(chosen.kl), Radius(chosen) + 3, kInk);
    Disc(c, X(chosen.total.n), Y(chosen.kl), Radius(chosen), kCache);
    DrawLabels(c, front);
    DrawLegend(c);
  }

 private:
  double X(uint64_t bytes) const {
    return kLeft + (kRight - kLeft) * (static_cast<double>(bytes) - least_) / (most_ - least_);
  }
  double Y(double kl) const {
    return kBottom - (kBottom - kTop) * std::log(std::max(kl, kLeastKl) / low_) / std::log(high_ / low_);
  }
  double Radius(const Candidate& k) const {
    if (fast_ <= slow_ || k.speed.tokens_per_second <= 0) return (kSmall + kLarge) / 2;
    return kSmall + (kLarge - kSmall) * std::sqrt((k.speed.tokens_per_second - slow_) / (fast_ - slow_));
  }
  std::string Speed(const Candidate& k) const {
    return speeds_
               ? fmt::format(", {:.{}f} tokens/s", k.speed.tokens_per_second, k.speed.tokens_per_second < 100 ? 1 : 0)
               : "";
  }
  std::string Chosen() const {
    const Candidate& k = f_.choice();
    return fmt::format("taken: {}, {} cache, {}: {}, KL {:.2g} nats a token{}", k.weights, k.choice.kv->name,
                       k.choice.streamed > 0 ? fmt::format("{} of {} layers from the disk", k.choice.streamed, k.layers)
                                             : "all layers in memory",
                       Human(k.total), k.kl, Speed(k));
  }

  void DrawAxes(Canvas* c) const {
    for (int decade = -5; decade <= 3; ++decade) {
      const double kl = std::pow(10, decade);
      if (kl < low_ || kl > high_) continue;
      c->Rect(kLeft, Y(kl), kRight - kLeft, 1, kEmpty);
      c->Text(kLeft - 10, Y(kl), 12, decade == -5 ? "0" : fmt::format("{:g}", kl), kFaint, Anchor::kEnd);
    }
    for (int tick = 0; tick <= 5; ++tick) {
      const auto bytes = static_cast<uint64_t>(least_ + (most_ - least_) * tick / 5);
      c->Text(X(bytes), kBottom + 18, 12, Human({bytes}), kFaint,
              tick == 0   ? Anchor::kStart
              : tick == 5 ? Anchor::kEnd
                          : Anchor::kMiddle);
    }
    c->Rect(kLeft, kBottom, kRight - kLeft, 1, kProcess);
    c->Text(kLeft, kTop - 16, 12, "predicted KL, nats a token", kFaint);
    c->Text(kRight, kBottom + 40, 12, "memory of the process", kFaint, Anchor::kEnd);
  }

  // Names of the front and of the choice, which comes first, where there is room between discs.
  void DrawLabels(Canvas* c, std::vector<const Candidate*> front) const {
    std::erase(front, &f_.choice());
    front.insert(front.begin(), &f_.choice());
    struct Box {
      double x, y, w, h;  // y: of its middle
    };
    std::vector<Box> taken;
    for (const Candidate* k : front)
      taken.push_back({X(k->total.n) - Radius(*k), Y(k->kl), 2 * Radius(*k), 2 * Radius(*k)});
    for (const Candidate* k : front) {
      const std::string text = k->weights + Speed(*k);
      const double w = Canvas::TextWidth(text, 12), r = Radius(*k) + 8, x = X(k->total.n), y = Y(k->kl);
      for (const auto& [left, middle] :
           {std::pair{x + r - 4, y - 11}, {x + r + 2, y}, {x + r - 4, y - 25}, {x - r - w, y + 9}, {x + r, y + 16}}) {
        const Box box{left, middle, w, 12};
        const bool inside = left > kLeft && left + w < kRight && middle > kTop + 6 && middle < kBottom - 8;
        const bool free = std::none_of(taken.begin(), taken.end(), [&](const Box& b) {
          return std::abs(b.y - box.y) < (b.h + box.h) / 2 && box.x < b.x + b.w + 4 && b.x < box.x + box.w + 4;
        });
        if (!inside || !free) continue;
        c->Text(left, middle, 12, text, kInk);
        taken.push_back(box);
        break;
      }
    }
  }

  void DrawLegend(Canvas* c) const {
    constexpr double kY = kHeight - 40;
    double x = kLeft;
    for (const auto& [colour, text] : {std::pair{kCache, "taken"},
                                       {kWeights,
                                        "nothing that fits is better in memory, quality or speed without being "
                                        "worse in another"},
                                       {kProcess, "something is better"}}) {
      Disc(c, x + 7, kY, 7, colour);
      c->Text(x + 20, kY, 13, text, kInk);
      x += 44 + Canvas::TextWidth(text, 13);
    }
    c->Text(kLeft, kHeight - 16, 12, "Larger discs decode faster.", kFaint);
  }

  const Fitted& f_;
  bool speeds_;
  double least_ = INFINITY, most_ = 0, low_ = INFINITY, high_ = 0, slow_ = INFINITY, fast_ = 0;
};

}  // namespace

Status DrawPareto(const Fitted& fitted, const std::string& title, Bytes budget, bool speeds, const std::string& path) {
  TRY(CheckPicturePath(path, "--plot"));
  const std::unique_ptr<Canvas> canvas = MakeCanvasFor(path, kWidth, kHeight);
  Picture(fitted, budget, speeds).Draw(canvas.get(), title, budget);
  return WriteAtomically(path, canvas->Encode());
}

}  // namespace sotto
