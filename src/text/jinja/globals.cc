// The functions that every template has.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <limits>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/renderer.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

using Reply = Result<Value>;
using R = Renderer;
using V = const Value&;
using A = Arguments&;

constexpr int64_t kMaxRange = 100000;  // jinja2.sandbox.MAX_RANGE

Reply MakeRange(R& r, V, A a) {
  if (a.positional.empty() || a.positional.size() > 3 || !a.named.empty())
    return BadInput("range() takes one to three numbers");
  for (const Value& v : a.positional)
    if (!v.IsInteger()) return v.is(Kind::kUndefined) ? UndefinedError(v) : BadInput("range() takes whole numbers");
  auto range = std::make_shared<Range>();
  const bool one = a.positional.size() == 1;
  range->start = one ? 0 : a.positional[0].integer();
  range->stop = a.positional[one ? 0 : 1].integer();
  range->step = a.positional.size() == 3 ? a.positional[2].integer() : 1;
  if (range->step == 0) return BadInput("range() has step 0");
  const __int128 step = range->step, span = static_cast<__int128>(range->stop) - range->start;
  const __int128 count = span == 0 || (span < 0) != (step < 0) ? 0 : (span - (step < 0 ? -1 : 1)) / step + 1;
  if (count > kMaxRange) return BadInput(fmt::format("range() has more than {} items", kMaxRange));
  range->count = static_cast<int64_t>(count);
  return r.budget().Make(Kind::kRange, std::move(range), 32);
}

// What dict() and namespace() are called with: pairs or a dict, then names.
Result<std::vector<std::pair<Value, Value>>> Pairs(R& r, const Arguments& a) {
  std::vector<std::pair<Value, Value>> pairs;
  if (a.positional.size() > 1) return BadInput("dict() takes one argument without a name");
  if (!a.positional.empty() && a.positional[0].is(Kind::kDict)) {
    pairs = a.positional[0].dict().items;
  } else if (!a.positional.empty()) {
    for (const Value& pair : TRY(ToList(r.budget(), a.positional[0]))) {
      std::vector<Value> items = TRY(ToList(r.budget(), pair));
      if (items.size() != 2) return BadInput("dict() needs pairs");
      pairs.emplace_back(std::move(items[0]), std::move(items[1]));
    }
  }
  for (const auto& [name, value] : a.named) pairs.emplace_back(TRY(r.budget().Text(name)), value);
  return pairs;
}

Reply MakeDict(R& r, V, A a) { return r.budget().MakeDict(TRY(Pairs(r, a))); }

Reply MakeNamespace(R& r, V, A a) {
  const Value dict = TRY(r.budget().MakeDict(TRY(Pairs(r, a))));
  std::vector<std::pair<std::string, Value>> attributes;
  for (const auto& [key, value] : dict.dict().items) {
    const std::string_view name = TRY(TextOf(key, "the name of an attribute"));
    if (name.starts_with('_')) return BadInput(fmt::format("a namespace can't have an attribute '{}'", name));
    attributes.emplace_back(name, value);
  }
  return r.MakeNamespace(std::move(attributes));
}

Reply MakeCycler(R& r, V, A a) {
  if (a.positional.empty() || !a.named.empty()) return BadInput("cycler() needs values");
  auto cycler = std::make_shared<Cycler>();
  cycler->items = TRY(r.budget().Tuple(std::move(a.positional)));
  const int depth = cycler->items.depth();
  return r.budget().Make(Kind::kCycler, std::move(cycler), 48, depth);
}

Reply MakeJoiner(R& r, V, A a) {
  auto joiner = std::make_shared<Callable>();
  const Value separator = a.positional[0] ? a.positional[0] : Constant(", ");
  joiner->code = [separator, used = false](Arguments& none) mutable -> Reply {
    if (!none.positional.empty() || !none.named.empty()) return BadInput("a joiner takes no arguments");
    return std::exchange(used, true) ? separator : Constant("");
  };
  return r.budget().Make(Kind::kCallable, std::move(joiner), 64, separator.depth());
}

Reply RaiseException(R& r, V, A a) {
  std::string message;
  TRY(AppendText(r.budget(), a.positional[0], &message));
  return r.Raise(std::move(message));
}

Reply StrftimeNow(R& r, V, A a) {
  std::string format(TRY(TextOf(a.positional[0], "a format of time")));
  std::tm now{};
  if (r.limits().now) {
    now = *r.limits().now;
  } else {
    const std::time_t time = std::time(nullptr);
    ::localtime_r(&time, &now);
  }
  // As Python's naive time: no zone, and microseconds that C doesn't know (0 here).
  for (size_t at = 0; (at = format.find('%', at)) != std::string::npos; at += 2) {
    const char kind = at + 1 < format.size() ? format[at + 1] : '\0';
    if (kind != 'f' && kind != 'z' && kind != 'Z') continue;
    const std::string_view text = kind == 'f' ? "000000" : "";
    format.replace(at, 2, text);
    at += text.size() - 2;
  }
  if (format.find('\0') != std::string::npos) return BadInput("a format of time has a NUL");
  std::array<char, 4096> text;
  format += '.';  // so that no result is empty but one that is too long
  const size_t size = std::strftime(text.data(), text.size(), format.c_str(), &now);
  if (size == 0 || !IsUtf8({text.data(), size - 1})) return BadInput("a format of time gives too long a text");
  return r.budget().Text(std::string(text.data(), size - 1));
}

Reply Refuse(R&, V, A) { return BadInput("lipsum() isn't supported in a chat template"); }

constexpr Native kGlobals[] = {
    {"range", "*", MakeRange},         {"dict", "*", MakeDict},
    {"namespace", "*", MakeNamespace}, {"cycler", "*", MakeCycler},
    {"joiner", "?sep", MakeJoiner},    {"raise_exception", "message", RaiseException},
    {"lipsum", "*", Refuse},           {"strftime_now", "format", StrftimeNow},
};

}  // namespace

const Native* FindGlobal(std::string_view name) {
  const auto* at =
      std::find_if(std::begin(kGlobals), std::end(kGlobals), [&](const Native& n) { return n.name == name; });
  return at == std::end(kGlobals) ? nullptr : at;
}

}  // namespace sotto::jinja
