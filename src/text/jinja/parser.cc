#include "text/jinja/parser.h"

#include <fmt/format.h>

namespace sotto::jinja {

Result<std::shared_ptr<const Program>> Parser::Run() {
  program_.content = Symbol("");
  program_.loop = Symbol("loop");
  program_.caller = Symbol("caller");
  program_.kwargs = Symbol("kwargs");
  program_.varargs = Symbol("varargs");
  program_.body = TRY(ParseBody({}));
  if (!unknown_.empty()) return unknown_[0];
  program_.symbols.resize(symbols_.size());
  for (const auto& [name, symbol] : symbols_) program_.symbols[static_cast<size_t>(symbol)] = name;
  return std::make_shared<const Program>(std::move(program_));
}

int Parser::Symbol(const std::string& name) {
  return symbols_.try_emplace(name, static_cast<int>(symbols_.size())).first->second;
}

void Parser::Mention(const std::string& name, bool set) {
  if (name != "caller" && name != "kwargs" && name != "varargs") return;
  for (auto& macro : macros_) {
    Use& use = macro[name];
    if (set)
      use.set = true;
    else if (!use.set)
      use.read = true;
  }
}

Error Parser::Unexpected(std::string_view wanted) const {
  static constexpr const char* kNames[] = {"text", "{{", "}}", "{%", "%}"};
  const bool tag = Now().kind <= Token::kBlockEnd;
  const std::string found =
      Now().kind == Token::kEnd ? "the end" : fmt::format("'{}'", tag ? kNames[Now().kind] : Now().text);
  return Fail(fmt::format("{} where {} is expected", found, wanted));
}

Status Parser::ExpectOp(std::string_view text) {
  if (!TakeOp(text)) return Unexpected(fmt::format("'{}'", text));
  return {};
}

Status Parser::Expect(Token::Kind kind) {
  if (Now().kind != kind) return Unexpected(kind == Token::kBlockEnd ? "'%}'" : "'}}'");
  Take();
  return {};
}

Result<std::string> Parser::ExpectName() {
  if (Now().kind != Token::kName) return Unexpected("a name");
  return Take().text;
}

Result<Body> Parser::ParseBody(std::initializer_list<std::string_view> ends, std::string* end) {
  const Nested nested(this);
  TRY(nested.Check());
  if (ends.size() > 0) {
    TakeOp(":");  // allowed after the head of a statement
    TRY(Expect(Token::kBlockEnd));
  }
  Body body;
  while (Now().kind != Token::kEnd) {
    if (Now().kind == Token::kData) {
      Stmt& data = body.emplace_back();
      data.line = Now().line;
      data.text = std::move(Take().text);
    } else if (Now().kind == Token::kVariableBegin) {
      Take();
      Stmt& output = body.emplace_back();
      output.kind = Stmt::kOutput;
      output.line = Now().line;
      output.exprs.push_back(TRY(ParseTuple(true)));
      TRY(Expect(Token::kVariableEnd));
    } else {
      Take();
      const bool ended = Now().kind == Token::kName && std::find(ends.begin(), ends.end(), Now().text) != ends.end();
      if (ended) {
        if (end != nullptr) *end = Now().text;
        Take();
        return body;
      }
      TRY(ParseTag(&body));
      TRY(Expect(Token::kBlockEnd));
    }
  }
  if (ends.size() > 0) return Fail(fmt::format("the template ends where {{% {} %}} is expected", *(ends.end() - 1)));
  return body;
}

Result<Body> Parser::ParseInner(std::initializer_list<std::string_view> ends, std::string* end) {
  const bool soft = std::exchange(soft_, false);
  Body body = TRY(ParseBody(ends, end));
  soft_ = soft;
  return body;
}

Status Parser::ParseTag(Body* body) {
  if (Now().kind != Token::kName) return Unexpected("the name of a tag");
  static constexpr std::pair<std::string_view, Result<Stmt> (Parser::*)()> kTags[] = {
      {"for", &Parser::ParseFor},      {"if", &Parser::ParseIf},       {"set", &Parser::ParseSet},
      {"with", &Parser::ParseWith},    {"macro", &Parser::ParseMacro}, {"filter", &Parser::ParseFilterBlock},
      {"call", &Parser::ParseCall},    {"break", &Parser::ParseJump},  {"generation", &Parser::ParseCall},
      {"continue", &Parser::ParseJump}};
  const int line = Now().line;
  if (IsWord("print")) return ParsePrint(body);
  const auto* tag =
      std::find_if(std::begin(kTags), std::end(kTags), [&](const auto& t) { return t.first == Now().text; });
  if (tag == std::end(kTags)) return Fail(fmt::format("the tag '{}' isn't supported in a chat template", Now().text));
  Stmt s = TRY((this->*tag->second)());
  s.line = line;
  body->push_back(std::move(s));
  return {};
}

Status Parser::ParsePrint(Body* body) {
  const int line = Take().line;
  for (bool first = true; Now().kind != Token::kBlockEnd; first = false) {
    if (!first) TRY(ExpectOp(","));
    Stmt& output = body->emplace_back();
    output.kind = Stmt::kOutput;
    output.line = line;
    output.exprs.push_back(TRY(ParseExpression()));
  }
  return {};
}

Result<Stmt> Parser::ParseFor() {
  Stmt s;
  s.kind = Stmt::kFor;
  Take();
  ++fors_;
  s.exprs.push_back(TRY(ParseTarget(false)));
  if (!TakeWord("in")) return Unexpected("'in'");
  s.exprs.push_back(TRY(ParseTuple(false)));
  const bool soft = std::exchange(soft_, false);
  s.exprs.push_back(TakeWord("if") ? TRY(ParseExpression()) : nullptr);
  soft_ = soft;
  s.recursive = TakeWord("recursive");
  std::string end;
  ++loops_;
  s.bodies.push_back(TRY(ParseInner({"else", "endfor"}, &end)));
  --loops_;
  if (end == "else") s.bodies.push_back(TRY(ParseInner({"endfor"})));
  --fors_;
  return s;
}

Result<Stmt> Parser::ParseIf() {
  Stmt s;
  s.kind = Stmt::kIf;
  const bool soft = std::exchange(soft_, true);
  std::string tag = Take().text;
  while (tag != "else" && tag != "endif") {
    s.exprs.push_back(TRY(ParseTuple(false)));
    s.bodies.push_back(TRY(ParseBody({"elif", "else", "endif"}, &tag)));
  }
  if (tag == "else") s.bodies.push_back(TRY(ParseBody({"endif"})));
  soft_ = soft;
  return s;
}

Result<Stmt> Parser::ParseSet() {
  Stmt s;
  Take();
  s.exprs.push_back(TRY(ParseTarget(true)));
  if (TakeOp("=")) {
    s.kind = Stmt::kSet;
    s.exprs.push_back(TRY(ParseTuple(true)));
    return s;
  }
  s.kind = Stmt::kSetBlock;
  s.exprs.push_back(nullptr);
  const bool soft = std::exchange(soft_, false);
  if (IsOp("|")) {
    ExprPtr content = TRY(Make(Expr::kName, Now().line));
    content->symbol = program_.content;
    s.exprs[1] = TRY(ParseFilters(std::move(content), false));
  }
  soft_ = soft;
  s.bodies.push_back(TRY(ParseInner({"endset"})));
  return s;
}

Result<Stmt> Parser::ParseFilterBlock() {
  Stmt s;
  s.kind = Stmt::kFilterBlock;
  const int line = Take().line;
  ExprPtr content = TRY(Make(Expr::kName, line));
  content->symbol = program_.content;
  const bool soft = std::exchange(soft_, false);
  s.exprs.push_back(TRY(ParseFilters(std::move(content), true)));
  soft_ = soft;
  s.bodies.push_back(TRY(ParseInner({"endfilter"})));
  return s;
}

Result<Stmt> Parser::ParseWith() {
  Stmt s;
  s.kind = Stmt::kWith;
  Take();
  while (Now().kind != Token::kBlockEnd) {
    if (!s.exprs.empty()) TRY(ExpectOp(","));
    const int fors = std::exchange(fors_, 0);  // `loop` may be set here
    s.exprs.push_back(TRY(ParseTarget(false)));
    fors_ = fors;
    TRY(ExpectOp("="));
    s.exprs.push_back(TRY(ParseExpression()));
  }
  s.bodies.push_back(TRY(ParseInner({"endwith"})));
  return s;
}

Result<Stmt> Parser::ParseMacro() {
  Stmt s;
  s.kind = Stmt::kMacro;
  Take();
  s.text = TRY(ExpectName());
  s.symbol = Symbol(s.text);
  TRY(ParseParameters(&s));
  TRY(ParseMacroBody(&s, "endmacro"));
  return s;
}

Result<Stmt> Parser::ParseCall() {
  Stmt s;
  s.kind = Stmt::kCall;
  const bool generation = Take().text == "generation";
  s.exprs.push_back(nullptr);
  if (!generation) {
    if (IsOp("(")) TRY(ParseParameters(&s));
    s.exprs[0] = TRY(ParseExpression());
    if (s.exprs[0]->kind != Expr::kCall) return Fail("{% call %} needs a call");
  }
  TRY(ParseMacroBody(&s, generation ? "endgeneration" : "endcall"));
  return s;
}

Result<Stmt> Parser::ParseJump() {
  Stmt s;
  s.kind = IsWord("break") ? Stmt::kBreak : Stmt::kContinue;
  if (loops_ == 0) return Fail(fmt::format("'{}' stands outside of a loop", Now().text));
  Take();
  return s;
}

Status Parser::ParseParameters(Stmt* s) {
  const bool soft = std::exchange(soft_, false);
  TRY(ExpectOp("("));
  while (!IsOp(")")) {
    if (!s->parameters.empty()) TRY(ExpectOp(","));
    Parameter& parameter = s->parameters.emplace_back();
    parameter.name = TRY(ExpectName());
    Mention(parameter.name, true);
    parameter.symbol = Symbol(parameter.name);
    for (size_t i = 0; i + 1 < s->parameters.size(); ++i)
      if (s->parameters[i].name == parameter.name)
        return Fail(fmt::format("the parameter '{}' comes twice", parameter.name));
    if (TakeOp("="))
      parameter.otherwise = TRY(ParseExpression());
    else if (s->parameters.size() > 1 && s->parameters[s->parameters.size() - 2].otherwise != nullptr)
      return Fail(fmt::format("the parameter '{}' needs a default, like the one before it", parameter.name));
  }
  soft_ = soft;
  return ExpectOp(")");
}

Status Parser::ParseMacroBody(Stmt* s, std::string_view end) {
  const int loops = std::exchange(loops_, 0);
  macros_.emplace_back();
  s->bodies.push_back(TRY(ParseInner({end})));
  auto& uses = macros_.back();
  s->caller = uses["caller"].read;
  s->kwargs = uses["kwargs"].read;
  s->varargs = uses["varargs"].read;
  macros_.pop_back();
  loops_ = loops;
  for (const Parameter& parameter : s->parameters)
    if (parameter.name == "caller" && s->caller && parameter.otherwise == nullptr)
      return Fail("a parameter 'caller' needs a default");
  return {};
}

}  // namespace sotto::jinja
