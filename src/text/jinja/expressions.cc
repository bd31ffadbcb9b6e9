// Operators, from the loosest to the tightest, and what stands on the left of "=".
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/parser.h"

namespace sotto::jinja {

Status Parser::SetHeight(Expr* e) {
  const auto add = [&](const ExprPtr& arg) {
    if (arg != nullptr) e->height = std::max(e->height, arg->height + 1);
  };
  for (const ExprPtr& arg : e->args) add(arg);
  add(e->star);
  add(e->stars);
  if (e->height > kMaxHeight) return BadTemplate(e->line, "an expression has too many parts");
  return {};
}

Result<ExprPtr> Parser::ParseExpression() {
  const Nested nested(this);
  TRY(nested.Check());
  const size_t known = unknown_.size();
  ExprPtr e = TRY(ParseOr());
  while (IsWord("if")) {
    const int line = Take().line;
    ExprPtr test = TRY(ParseOr());
    ExprPtr otherwise;
    if (TakeWord("else")) otherwise = TRY(ParseExpression());
    e = TRY(Make(Expr::kCondition, line, std::move(test), std::move(e), std::move(otherwise)));
    unknown_.resize(known);
  }
  return e;
}

Result<ExprPtr> Parser::ParseOr() {
  ExprPtr e = TRY(ParseAnd());
  while (IsWord("or")) {
    const int line = Take().line;
    e = TRY(Make(Expr::kOr, line, std::move(e), TRY(ParseAnd())));
  }
  return e;
}

Result<ExprPtr> Parser::ParseAnd() {
  ExprPtr e = TRY(ParseNot());
  while (IsWord("and")) {
    const int line = Take().line;
    e = TRY(Make(Expr::kAnd, line, std::move(e), TRY(ParseNot())));
  }
  return e;
}

Result<ExprPtr> Parser::ParseNot() {
  if (!IsWord("not")) return ParseCompare();
  const Nested nested(this);
  TRY(nested.Check());
  const int line = Take().line;
  return Make(Expr::kNot, line, TRY(ParseNot()));
}

Result<ExprPtr> Parser::ParseCompare() {
  static constexpr std::pair<std::string_view, char> kOperators[] = {{"==", '='}, {"!=", '!'}, {"<", '<'},
                                                                     {">", '>'},  {"<=", 'l'}, {">=", 'g'}};
  ExprPtr first = TRY(ParseSum());
  ExprPtr compare = TRY(Make(Expr::kCompare, Now().line));
  while (true) {
    const auto* found =
        std::find_if(std::begin(kOperators), std::end(kOperators), [&](auto o) { return IsOp(o.first); });
    if (found != std::end(kOperators)) {
      Take();
      compare->name += found->second;
    } else if (TakeWord("in")) {
      compare->name += 'i';
    } else if (IsWord("not") && Is(Next(), Token::kName, "in")) {
      Take(), Take();
      compare->name += 'n';
    } else {
      break;
    }
    compare->args.push_back(TRY(ParseSum()));
  }
  if (compare->args.empty()) return first;
  compare->args.insert(compare->args.begin(), std::move(first));
  TRY(SetHeight(compare.get()));
  return compare;
}

Result<ExprPtr> Parser::ParseChain(Result<ExprPtr> (Parser::*part)(),
                                   std::initializer_list<std::string_view> operators) {
  ExprPtr e = TRY((this->*part)());
  while (std::any_of(operators.begin(), operators.end(), [&](auto o) { return IsOp(o); })) {
    const Token& token = Take();
    const char op = token.text == "//" ? 'F' : token.text == "**" ? 'P' : token.text[0];
    const int line = token.line;
    e = TRY(Make(Expr::kArithmetic, line, std::move(e), TRY((this->*part)())));
    e->name.assign(1, op);
  }
  return e;
}

Result<ExprPtr> Parser::ParseSum() { return ParseChain(&Parser::ParseConcat, {"+", "-"}); }
Result<ExprPtr> Parser::ParseProduct() { return ParseChain(&Parser::ParsePower, {"*", "/", "//", "%"}); }
Result<ExprPtr> Parser::ParsePower() { return ParseChain(&Parser::ParseOperand, {"**"}); }
Result<ExprPtr> Parser::ParseOperand() { return ParseUnary(true); }

Result<ExprPtr> Parser::ParseConcat() {
  ExprPtr first = TRY(ParseProduct());
  if (!IsOp("~")) return first;
  ExprPtr e = TRY(Make(Expr::kConcat, Now().line, std::move(first)));
  while (TakeOp("~")) e->args.push_back(TRY(ParseProduct()));
  TRY(SetHeight(e.get()));
  return e;
}

Result<ExprPtr> Parser::ParseUnary(bool with_filters) {
  const Nested nested(this);
  TRY(nested.Check());
  ExprPtr e;
  if (IsOp("-") || IsOp("+")) {
    const Token& sign = Take();
    const Expr::Kind kind = sign.text == "-" ? Expr::kNegative : Expr::kPositive;
    const int line = sign.line;
    e = TRY(Make(kind, line, TRY(ParseUnary(false))));
  } else {
    e = TRY(ParsePrimary());
  }
  return ParsePostfix(std::move(e), with_filters);
}

Result<ExprPtr> Parser::ParseTuple(bool with_condition) {
  const int line = Now().line;
  std::vector<ExprPtr> items;
  bool comma = false;
  const auto ends = [&] { return Now().kind == Token::kVariableEnd || Now().kind == Token::kBlockEnd || IsOp(")"); };
  while (!ends()) {
    items.push_back(TRY(with_condition ? ParseExpression() : ParseOr()));
    if (!TakeOp(",")) break;
    comma = true;
  }
  if (items.empty()) return Unexpected("an expression");
  if (!comma) return std::move(items[0]);
  ExprPtr tuple = TRY(Make(Expr::kTuple, line));
  tuple->args = std::move(items);
  TRY(SetHeight(tuple.get()));
  return tuple;
}

// What can be set: a name, the attribute of a namespace, or several of them.
Result<ExprPtr> Parser::ParseTarget(bool with_namespace) {
  const int line = Now().line;
  std::vector<ExprPtr> items;
  bool comma = false;
  while (Now().kind != Token::kBlockEnd && !IsOp(")")) {
    items.push_back(TRY(ParseOneTarget(with_namespace)));
    if (!TakeOp(",")) break;
    comma = true;
  }
  if (items.empty()) return Unexpected("a name");
  if (!comma) return std::move(items[0]);
  ExprPtr tuple = TRY(Make(Expr::kTuple, line));
  tuple->args = std::move(items);
  TRY(SetHeight(tuple.get()));
  return tuple;
}

Result<ExprPtr> Parser::ParseOneTarget(bool with_namespace) {
  const Nested nested(this);
  TRY(nested.Check());
  if (TakeOp("(")) {
    ExprPtr target = TRY(ParseTarget(false));
    TRY(ExpectOp(")"));
    return target;
  }
  const int line = Now().line;
  const std::string name = TRY(ExpectName());
  if (IsConstant(name)) return Fail(fmt::format("'{}' can't be set", name));
  ExprPtr target = TRY(Make(with_namespace && IsOp(".") ? Expr::kNsRef : Expr::kName, line));
  target->symbol = Symbol(name);
  if (target->kind == Expr::kNsRef) {
    Take();
    target->name = TRY(ExpectName());
    return target;
  }
  if (name == "loop" && fors_ > 0) return BadTemplate(line, "'loop' can't be set inside a loop");
  Mention(name, true);
  return target;
}

}  // namespace sotto::jinja
