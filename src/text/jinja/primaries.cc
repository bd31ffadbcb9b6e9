// Literals and names, and what follows them: attributes, items, calls, filters and tests.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/jinja/parser.h"
#include "text/jinja/renderer.h"

namespace sotto::jinja {

bool Parser::IsConstant(std::string_view name) {
  static constexpr std::string_view kConstants[] = {"true", "True", "false", "False", "none", "None"};
  return std::find(std::begin(kConstants), std::end(kConstants), name) != std::end(kConstants);
}

Result<ExprPtr> Parser::ParsePrimary() {
  const int line = Now().line;
  if (Now().kind == Token::kString) {
    std::string text;
    while (Now().kind == Token::kString) text += Take().text;
    ExprPtr e = TRY(Make(Expr::kConst, line));
    e->value = Constant(std::move(text));
    return e;
  }
  if (Now().kind == Token::kInteger || Now().kind == Token::kFloat) return ParseNumber();
  if (IsOp("(")) return ParseParentheses();
  if (IsOp("[")) return ParseList();
  if (IsOp("{")) return ParseDict();
  if (Now().kind != Token::kName) return Unexpected("an expression");
  const std::string name = Take().text;
  ExprPtr e = TRY(Make(IsConstant(name) ? Expr::kConst : Expr::kName, line));
  if (e->kind == Expr::kConst) {
    e->value = name == "none" || name == "None" ? Value::None() : Value::Bool(name == "true" || name == "True");
  } else {
    e->symbol = Symbol(name);
    Mention(name, false);
  }
  return e;
}

Result<ExprPtr> Parser::ParseNumber() {
  const Token& token = Take();
  ExprPtr e = TRY(Make(Expr::kConst, token.line));
  std::string_view text = token.text;
  if (token.kind == Token::kFloat) {
    double number = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc::result_out_of_range)
      return BadTemplate(token.line, fmt::format("the number {} is out of range", text));
    e->value = Value::Float(number);
    return e;
  }
  int base = 10;
  if (text.size() > 1 && text[0] == '0' && text[1] != '0') {
    base = (text[1] | 0x20) == 'x' ? 16 : (text[1] | 0x20) == 'o' ? 8 : 2;
    text.remove_prefix(2);
  }
  int64_t number = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), number, base).ec != std::errc())
    return BadTemplate(token.line, fmt::format("the number {} doesn't fit in 64 bits", token.text));
  e->value = Value::Int(number);
  return e;
}

Result<ExprPtr> Parser::ParseParentheses() {
  const int line = Take().line;
  ExprPtr tuple = TRY(Make(Expr::kTuple, line));
  bool comma = false;
  while (!IsOp(")")) {
    tuple->args.push_back(TRY(ParseExpression()));
    if (!TakeOp(",")) break;
    comma = true;
  }
  TRY(ExpectOp(")"));
  if (tuple->args.size() == 1 && !comma) return std::move(tuple->args[0]);
  TRY(SetHeight(tuple.get()));
  return tuple;
}

Result<ExprPtr> Parser::ParseList() {
  const int line = Take().line;
  ExprPtr e = TRY(Make(Expr::kList, line));
  while (!IsOp("]")) {
    e->args.push_back(TRY(ParseExpression()));
    if (!TakeOp(",")) break;
  }
  TRY(ExpectOp("]"));
  TRY(SetHeight(e.get()));
  return e;
}

Result<ExprPtr> Parser::ParseDict() {
  const int line = Take().line;
  ExprPtr e = TRY(Make(Expr::kDict, line));
  while (!IsOp("}")) {
    e->args.push_back(TRY(ParseExpression()));
    TRY(ExpectOp(":"));
    e->args.push_back(TRY(ParseExpression()));
    if (!TakeOp(",")) break;
  }
  TRY(ExpectOp("}"));
  TRY(SetHeight(e.get()));
  return e;
}

Result<ExprPtr> Parser::ParsePostfix(ExprPtr e, bool with_filters) {
  while (true) {
    const int line = Now().line;
    if (TakeOp(".")) {
      if (Now().kind == Token::kInteger) {
        e = TRY(Make(Expr::kItem, line, std::move(e), TRY(ParseNumber())));
      } else {
        std::string name = TRY(ExpectName());
        e = TRY(Make(Expr::kAttribute, line, std::move(e)));
        e->name = std::move(name);
      }
    } else if (IsOp("[")) {
      e = TRY(ParseBrackets(std::move(e)));
    } else if (IsOp("(")) {
      e = TRY(Make(Expr::kCall, line, std::move(e)));
      TRY(ParseArguments(e.get()));
    } else {
      break;
    }
  }
  if (!with_filters) return e;
  while (true) {  // after a filter or test a call is allowed, an attribute isn't
    if (IsOp("|")) {
      e = TRY(ParseFilters(std::move(e), false));
    } else if (IsWord("is")) {
      e = TRY(ParseTest(std::move(e)));
    } else if (IsOp("(")) {
      e = TRY(Make(Expr::kCall, Now().line, std::move(e)));
      TRY(ParseArguments(e.get()));
    } else {
      return e;
    }
  }
}

Result<ExprPtr> Parser::ParseBrackets(ExprPtr e) {
  const int line = Take().line;
  std::vector<ExprPtr> keys;
  ExprPtr bounds[3];
  bool slice = false, comma = false;
  while (!IsOp("]")) {
    if (slice) return Fail("a slice between others isn't supported");
    if (!IsOp(":")) keys.push_back(TRY(ParseExpression()));
    if (IsOp(":")) {
      if (comma) return Fail("a slice between others isn't supported");
      slice = true;
      if (!keys.empty()) bounds[0] = std::move(keys[0]);
      for (int i = 1; i < 3 && TakeOp(":"); ++i)
        if (!IsOp(":") && !IsOp("]") && !IsOp(",")) bounds[i] = TRY(ParseExpression());
    }
    if (!TakeOp(",")) break;
    comma = true;
    if (IsOp("]")) return Unexpected("an expression");
  }
  TRY(ExpectOp("]"));
  if (slice)
    return Make(Expr::kSlice, line, std::move(e), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2]));
  if (keys.size() == 1) return Make(Expr::kItem, line, std::move(e), std::move(keys[0]));
  ExprPtr tuple = TRY(Make(Expr::kTuple, line));
  tuple->args = std::move(keys);
  TRY(SetHeight(tuple.get()));
  return Make(Expr::kItem, line, std::move(e), std::move(tuple));
}

Status Parser::ParseArguments(Expr* call) {
  TRY(ExpectOp("("));
  while (!IsOp(")")) {
    if (TakeOp("*")) {
      if (call->star != nullptr || call->stars != nullptr) return Fail("the arguments of the call are out of order");
      call->star = TRY(ParseExpression());
    } else if (TakeOp("**")) {
      if (call->stars != nullptr) return Fail("the arguments of the call are out of order");
      call->stars = TRY(ParseExpression());
    } else if (Now().kind == Token::kName && Is(Next(), Token::kOperator, "=")) {
      if (call->stars != nullptr) return Fail("the arguments of the call are out of order");
      call->names.push_back(Take().text);
      if (std::count(call->names.begin(), call->names.end(), call->names.back()) > 1)
        return Fail(fmt::format("the argument '{}' is given twice", call->names.back()));
      Take();
      call->args.push_back(TRY(ParseExpression()));
    } else {
      if (call->star != nullptr || call->stars != nullptr || !call->names.empty())
        return Fail("the arguments of the call are out of order");
      call->args.push_back(TRY(ParseExpression()));
    }
    if (!TakeOp(",")) break;
  }
  TRY(ExpectOp(")"));
  return SetHeight(call);
}

Result<ExprPtr> Parser::ParseFilters(ExprPtr e, bool first_without_bar) {
  while (first_without_bar || TakeOp("|")) {
    first_without_bar = false;
    const int line = Now().line;
    std::string name = TRY(ExpectName());
    while (TakeOp(".")) name += "." + TRY(ExpectName());
    e = TRY(Make(Expr::kFilter, line, std::move(e)));
    if (IsOp("(")) TRY(ParseArguments(e.get()));
    if (!soft_ && !IsFilterOfJinja(name))
      unknown_.push_back(BadTemplate(line, fmt::format("there is no filter '{}'", name)));
    e->name = std::move(name);
  }
  return e;
}

Result<ExprPtr> Parser::ParseTest(ExprPtr e) {
  const int line = Take().line;
  const bool negated = TakeWord("not");
  std::string name = TRY(ExpectName());
  while (TakeOp(".")) name += "." + TRY(ExpectName());
  e = TRY(Make(Expr::kTest, line, std::move(e)));
  const Token& now = Now();
  const bool has_argument = now.kind == Token::kName || now.kind == Token::kString || now.kind == Token::kInteger ||
                            now.kind == Token::kFloat || IsOp("[") || IsOp("{");
  if (IsOp("(")) {
    TRY(ParseArguments(e.get()));
  } else if (has_argument && !IsWord("else") && !IsWord("or") && !IsWord("and")) {
    if (IsWord("is")) return Fail("tests can't be chained with 'is'");
    e->args.push_back(TRY(ParsePostfix(TRY(ParsePrimary()), false)));
    TRY(SetHeight(e.get()));
  }
  if (!soft_ && FindTest(name) == nullptr)
    unknown_.push_back(BadTemplate(line, fmt::format("there is no test '{}'", name)));
  e->name = std::move(name);
  if (negated) e = TRY(Make(Expr::kNot, line, std::move(e)));
  return e;
}

}  // namespace sotto::jinja
