// "{0} {user.name!r:>8}".format(…)
#include <fmt/format.h>

#include <charconv>

#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace sotto::jinja {
namespace {

class Formatter {
 public:
  Formatter(Renderer& r, const Arguments& arguments) : r_(r), arguments_(arguments) {}

  // `nested`: a format specification, whose fields can't have such with fields again.
  Result<std::string> Run(std::string_view text, bool nested) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c != '{' && c != '}') {
        out.push_back(c);
        ++at;
      } else if (at + 1 < text.size() && text[at + 1] == c && !nested) {
        out.push_back(c);
        at += 2;
      } else {
        const size_t end = c == '{' ? FieldEnd(text, at + 1) : std::string_view::npos;
        if (end == std::string_view::npos) return BadInput("a format has a single brace");
        out += TRY(Field(text.substr(at + 1, end - at - 1), nested));
        at = end + 1;
      }
      TRY(r_.budget().Fits(out.size()));
    }
    return out;
  }

 private:
  static size_t FieldEnd(std::string_view text, size_t at) {
    for (int depth = 1; at < text.size(); ++at) {
      if (text[at] == '{') ++depth;
      if (text[at] == '}' && --depth == 0) return at;
    }
    return std::string_view::npos;
  }

  Result<std::string> Field(std::string_view field, bool nested) {
    const size_t end = std::min(field.find_first_of("!:"), field.size());
    Value value = TRY(Lookup(field.substr(0, end)));
    std::string_view rest = field.substr(end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest[1] != 's' && rest[1] != 'r') || (rest.size() > 2 && rest[2] != ':'))
        return BadInput(fmt::format("the format '{{{}}}' isn't supported", field));
      std::string text;
      if (rest[1] == 'r')
        TRY(AppendRepr(r_.budget(), value, &text));
      else
        TRY(AppendText(r_.budget(), value, &text));
      value = TRY(r_.budget().Text(std::move(text)));
      rest.remove_prefix(2);
    }
    if (rest.empty()) return FormatValue(r_.budget(), value, "");
    if (nested && rest.find('{') != std::string_view::npos) return BadInput("a format nests too deeply");
    return FormatValue(r_.budget(), value, TRY(Run(rest.substr(1), true)));
  }

  Result<Value> Lookup(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = TRY(First(path.substr(0, end)));
    path.remove_prefix(end);
    while (!path.empty()) {
      const bool item = path[0] == '[';
      const size_t stop = item ? path.find(']') : std::min(path.find_first_of(".[", 1), path.size());
      if (stop == std::string_view::npos || stop < 2 || (path[0] != '.' && !item))
        return BadInput("a format has a broken field");
      const std::string_view name = path.substr(1, stop - 1);
      int64_t number = 0;
      if (!item)
        value = TRY(Attribute(r_, value, name));
      else
        value = TRY(Subscript(r_, value,
                              IsNumber(name, &number) ? Value::Int(number) : TRY(r_.budget().Text(std::string(name)))));
      path.remove_prefix(item ? stop + 1 : stop);
    }
    return value;
  }

  Result<Value> First(std::string_view name) {
    int64_t number = next_;
    const bool numbered = IsNumber(name, &number);
    if (name.empty() || numbered) {
      if ((name.empty() && manual_) || (numbered && next_ > 0)) return BadInput("a format mixes '{}' and '{0}'");
      manual_ |= numbered;
      if (name.empty()) ++next_;
      if (number >= static_cast<int64_t>(arguments_.positional.size()))
        return BadInput("there are fewer values than the format needs");
      return arguments_.positional[static_cast<size_t>(number)];
    }
    for (const auto& [key, value] : arguments_.named)
      if (key == name) return value;
    return BadInput(fmt::format("the format names '{}', which isn't there", name));
  }

  static bool IsNumber(std::string_view text, int64_t* number) {
    if (text.empty() || text.find_first_not_of("0123456789") != std::string_view::npos) return false;
    return std::from_chars(text.data(), text.data() + text.size(), *number).ec == std::errc();
  }

  Renderer& r_;
  const Arguments& arguments_;
  int64_t next_ = 0;
  bool manual_ = false;
};

}  // namespace

Result<Value> Formatted(Renderer& r, const Value& text, const Arguments& arguments) {
  return r.budget().Text(TRY(Formatter(r, arguments).Run(text.text(), false)));
}

}  // namespace sotto::jinja
