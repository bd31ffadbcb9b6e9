#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/text.h"
#include "text/utf8.h"

namespace sotto::jinja {
namespace {

// Visits value[0], value[1] … of what has a length.
template <class At>
Result<std::shared_ptr<Iterator>> Indexed(Budget& budget, const Value& value, int64_t count, At at) {
  const auto next = [&budget, value, count, at, i = int64_t{0}](Value* out) mutable -> Result<bool> {
    TRY(budget.Spend(1));
    if (i >= count) return false;
    *out = TRY(at(i++));
    return true;
  };
  const Value iterator = TRY(budget.MakeIterator(next, value.depth()));
  return iterator.share<Iterator>();
}

Result<Value> ViewItem(Budget& budget, const View& view, int64_t i) {
  const auto& [key, value] = view.dict.dict().items[static_cast<size_t>(i)];
  if (view.part == View::kItems) return budget.Tuple({key, value});
  return view.part == View::kKeys ? key : value;
}

Status AppendItems(Budget& budget, const std::vector<Value>& items, std::string* out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) *out += ", ";
    TRY(AppendRepr(budget, items[i], out));
  }
  return {};
}

Status AppendDict(Budget& budget, const Dict& dict, std::string* out) {
  *out += "{";
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) *out += ", ";
    TRY(AppendRepr(budget, dict.items[i].first, out));
    *out += ": ";
    TRY(AppendRepr(budget, dict.items[i].second, out));
  }
  *out += "}";
  return {};
}

Status AppendView(Budget& budget, const View& view, std::string* out) {
  static constexpr const char* kNames[] = {"dict_keys([", "dict_values([", "dict_items(["};
  *out += kNames[view.part];
  std::vector<Value> items;
  for (size_t i = 0; i < view.dict.dict().items.size(); ++i)
    items.push_back(TRY(ViewItem(budget, view, static_cast<int64_t>(i))));
  TRY(AppendItems(budget, items, out));
  *out += "])";
  return {};
}

struct Picked {
  int64_t start = 0, step = 1, count = 0;
  int64_t At(int64_t i) const { return start + i * step; }
};

// Python's rule for a slice of `count` items.
Result<Picked> Bounds(const Value& start, const Value& stop, const Value& step, int64_t count) {
  for (const Value* v : {&start, &stop, &step})
    if (*v && !v->is(Kind::kNone) && !v->IsInteger()) return BadInput("a slice has bounds that aren't whole numbers");
  const auto given = [](const Value& v) { return v && !v.is(Kind::kNone); };
  Picked range;
  range.step = given(step) ? step.integer() : 1;
  if (range.step == 0) return BadInput("a slice has step 0");
  if (range.step == INT64_MIN) range.step = -INT64_MAX;
  const int64_t low = range.step < 0 ? -1 : 0, high = range.step < 0 ? count - 1 : count;
  const auto clamp = [&](const Value& v, int64_t otherwise) {
    if (!given(v)) return otherwise;
    const int64_t at = v.integer();
    return std::clamp(at < 0 ? at + count : at, low, high);
  };
  range.start = clamp(start, range.step < 0 ? high : low);
  const int64_t end = clamp(stop, range.step < 0 ? low : high);
  const int64_t span = range.step < 0 ? range.start - end : end - range.start;
  range.count = span <= 0 ? 0 : (span - 1) / std::abs(range.step) + 1;
  return range;
}

// The place of an index that may count from the end; -1 when it is outside.
int64_t Place(int64_t index, int64_t count) {
  if (index < 0) index += count;
  return index < 0 || index >= count ? -1 : index;
}

bool IsAscii(const Value& text) { return text.as<String>().length == static_cast<int64_t>(text.text().size()); }

size_t Offset(const Value& text, int64_t character) {
  return IsAscii(text) ? static_cast<size_t>(character) : OffsetOf(text.text(), character);
}

Result<Value> SliceText(Budget& budget, const Value& value, const Picked& range) {
  const std::string& text = value.text();
  TRY(budget.Spend(text.size() / 64));
  std::string part;
  if (range.step == 1 && range.count > 0) {
    const size_t begin = Offset(value, range.start);
    const size_t end = IsAscii(value) ? begin + static_cast<size_t>(range.count)
                                      : begin + OffsetOf(std::string_view(text).substr(begin), range.count);
    part = text.substr(begin, end - begin);
  } else if (range.count > 0) {
    std::vector<size_t> starts;
    for (size_t i = 0; i < text.size(); i += CharacterAt(text, i).bytes) starts.push_back(i);
    for (int64_t i = 0; i < range.count; ++i) {
      const size_t at = starts[static_cast<size_t>(range.At(i))];
      part.append(text, at, CharacterAt(text, at).bytes);
    }
  }
  return budget.Text(std::move(part), value.as<String>().safe);
}

}  // namespace

Result<std::shared_ptr<Iterator>> Iterate(Budget& budget, const Value& value) {
  switch (value.kind()) {
    case Kind::kIterator: return value.share<Iterator>();
    case Kind::kList:
    case Kind::kTuple:
      return Indexed(budget, value, static_cast<int64_t>(value.items().size()),
                     [value](int64_t i) -> Result<Value> { return value.items()[static_cast<size_t>(i)]; });
    case Kind::kDict:
      return Indexed(budget, value, static_cast<int64_t>(value.dict().items.size()),
                     [value](int64_t i) -> Result<Value> { return value.dict().items[static_cast<size_t>(i)].first; });
    case Kind::kView:
      return Indexed(budget, value, static_cast<int64_t>(value.as<View>().dict.dict().items.size()),
                     [&budget, value](int64_t i) { return ViewItem(budget, value.as<View>(), i); });
    case Kind::kRange:
      return Indexed(budget, value, value.as<Range>().count,
                     [value](int64_t i) -> Result<Value> { return Value::Int(value.as<Range>().At(i)); });
    case Kind::kString:
      return Indexed(budget, value, value.as<String>().length, [&budget, value, at = size_t{0}](int64_t) mutable {
        const size_t begin = at;
        at += CharacterAt(value.text(), at).bytes;
        return budget.Text(value.text().substr(begin, at - begin));
      });
    case Kind::kUndefined: return Indexed(budget, value, 0, [](int64_t) -> Result<Value> { return Value::None(); });
    default: return BadInput(fmt::format("a {} can't be iterated over", TypeName(value)));
  }
}

Result<std::vector<Value>> ToList(Budget& budget, const Value& value) {
  const auto iterator = TRY(Iterate(budget, value));
  std::vector<Value> items;
  Value item;
  while (TRY(iterator->Next(&item))) {
    items.push_back(std::move(item));
    TRY(budget.Fits(items.size() * sizeof(Value)));
  }
  return items;
}

Result<int64_t> Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return value.as<String>().length;
    case Kind::kList:
    case Kind::kTuple: return static_cast<int64_t>(value.items().size());
    case Kind::kDict: return static_cast<int64_t>(value.dict().items.size());
    case Kind::kView: return static_cast<int64_t>(value.as<View>().dict.dict().items.size());
    case Kind::kRange: return value.as<Range>().count;
    default: return BadInput(fmt::format("a {} has no length", TypeName(value)));
  }
}

Result<Value> ToText(Budget& budget, const Value& value) {
  if (value.is(Kind::kString)) return value;
  std::string text;
  TRY(AppendText(budget, value, &text));
  return budget.Text(std::move(text));
}

Status AppendText(Budget& budget, const Value& value, std::string* out) {
  if (value.is(Kind::kUndefined)) return {};
  if (!value.is(Kind::kString)) return AppendRepr(budget, value, out);
  TRY(budget.Fits(out->size() + value.text().size()));
  out->append(value.text());
  return {};
}

Status AppendRepr(Budget& budget, const Value& value, std::string* out) {
  TRY(budget.Spend(1));
  TRY(budget.Fits(out->size()));
  switch (value.kind()) {
    case Kind::kUndefined: *out += "Undefined"; return {};
    case Kind::kNone: *out += "None"; return {};
    case Kind::kBool: *out += value.integer() != 0 ? "True" : "False"; return {};
    case Kind::kInt: *out += fmt::format("{}", value.integer()); return {};
    case Kind::kFloat: *out += FloatText(value.number()); return {};
    case Kind::kString:
      TRY(budget.Spend(value.text().size() / 16));
      if (value.as<String>().safe) *out += "Markup(";
      AppendQuoted(value.text(), out);
      if (value.as<String>().safe) *out += ")";
      return {};
    case Kind::kList:
      *out += "[";
      TRY(AppendItems(budget, value.items(), out));
      *out += "]";
      return {};
    case Kind::kTuple:
      *out += "(";
      TRY(AppendItems(budget, value.items(), out));
      *out += value.items().size() == 1 ? ",)" : ")";
      return {};
    case Kind::kDict: return AppendDict(budget, value.dict(), out);
    case Kind::kView: return AppendView(budget, value.as<View>(), out);
    case Kind::kRange: {
      const Range& range = value.as<Range>();
      *out += fmt::format("range({}, {}", range.start, range.stop);
      *out += range.step == 1 ? ")" : fmt::format(", {})", range.step);
      return {};
    }
    case Kind::kCallable:
      if (value.as<Callable>().macro.empty()) break;
      *out += fmt::format("<Macro {}>", value.as<Callable>().macro);
      return {};
    default: break;
  }
  return BadInput(fmt::format("a {} can't be printed", TypeName(value)));
}

Result<Value> ItemAt(Budget& budget, const Value& value, const Value& index) {
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (value.is(Kind::kDict)) {
    const auto key = HashKey(budget, index);
    if (!key.ok()) return Value();
    const auto at = value.dict().index.find(*key);
    return at == value.dict().index.end() ? Value() : value.dict().items[at->second].second;
  }
  if (!index.IsInteger()) return Value();
  if (value.IsSequence()) {
    const int64_t at = Place(index.integer(), static_cast<int64_t>(value.items().size()));
    return at < 0 ? Value() : value.items()[static_cast<size_t>(at)];
  }
  if (value.is(Kind::kRange)) {
    const int64_t at = Place(index.integer(), value.as<Range>().count);
    return at < 0 ? Value() : Value::Int(value.as<Range>().At(at));
  }
  if (value.is(Kind::kString)) {
    const int64_t at = Place(index.integer(), value.as<String>().length);
    if (at < 0) return Value();
    return SliceText(budget, value, {at, 1, 1});
  }
  return Value();
}

Result<Value> Slice(Budget& budget, const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (value.is(Kind::kUndefined)) return UndefinedError(value);
  if (!value.IsSequence() && !value.is(Kind::kString))
    return BadInput(fmt::format("a {} can't be sliced", TypeName(value)));
  const int64_t count = TRY(Length(value));
  const Picked range = TRY(Bounds(start, stop, step, count));
  if (value.is(Kind::kString)) return SliceText(budget, value, range);
  std::vector<Value> items;
  for (int64_t i = 0; i < range.count; ++i) items.push_back(value.items()[static_cast<size_t>(range.At(i))]);
  return budget.Items(value.kind(), std::move(items));
}

}  // namespace sotto::jinja
