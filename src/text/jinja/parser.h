// Tokens to a program: Jinja's grammar, less inheritance, imports and autoescape.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace sotto::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Result<std::shared_ptr<const Program>> Run();

 private:
  static constexpr int kMaxNesting = 200;  // calls of functions below that contain themselves: two for a parenthesis
  static constexpr int kMaxHeight = 200;   // of an expression's tree
  class Nested {
   public:
    explicit Nested(Parser* parser) : parser_(parser) { ++parser->nesting_; }
    ~Nested() { --parser_->nesting_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    Status Check() const {
      return parser_->nesting_ > kMaxNesting ? Status(parser_->Fail("it nests too deeply")) : Status();
    }

   private:
    Parser* parser_;
  };

  // Statements, in parser.cc.
  // Up to a tag with one of the names, which is read and put into `end`.
  Result<Body> ParseBody(std::initializer_list<std::string_view> ends, std::string* end = nullptr);
  Result<Body> ParseInner(std::initializer_list<std::string_view> ends,
                          std::string* end = nullptr);  // in its own scope
  Status ParseTag(Body* body);
  Result<Stmt> ParseStatement();
  Result<Stmt> ParseFor();
  Result<Stmt> ParseIf();
  Result<Stmt> ParseSet();
  Result<Stmt> ParseWith();
  Result<Stmt> ParseFilterBlock();
  Result<Stmt> ParseMacro();
  Result<Stmt> ParseCall();
  Result<Stmt> ParseJump();
  Status ParseParameters(Stmt* s);
  Status ParseMacroBody(Stmt* s, std::string_view end);
  Status ParsePrint(Body* body);

  // Expressions, in expressions.cc.
  Result<ExprPtr> ParseExpression();
  Result<ExprPtr> ParseOr();
  Result<ExprPtr> ParseAnd();
  Result<ExprPtr> ParseNot();
  Result<ExprPtr> ParseCompare();
  Result<ExprPtr> ParseSum();
  Result<ExprPtr> ParseConcat();
  Result<ExprPtr> ParseProduct();
  Result<ExprPtr> ParsePower();
  Result<ExprPtr> ParseOperand();
  Result<ExprPtr> ParseUnary(bool with_filters);
  Result<ExprPtr> ParsePrimary();
  Result<ExprPtr> ParseParentheses();
  Result<ExprPtr> ParseList();
  Result<ExprPtr> ParseDict();
  Result<ExprPtr> ParseNumber();
  Result<ExprPtr> ParsePostfix(ExprPtr e, bool with_filters);
  Result<ExprPtr> ParseBrackets(ExprPtr e);
  Result<ExprPtr> ParseFilters(ExprPtr e, bool first_without_bar);
  Result<ExprPtr> ParseTest(ExprPtr e);
  Status ParseArguments(Expr* call);
  // One expression, or a tuple without parentheses.
  Result<ExprPtr> ParseTuple(bool with_condition);
  Result<ExprPtr> ParseTarget(bool with_namespace);
  Result<ExprPtr> ParseChain(Result<ExprPtr> (Parser::*part)(), std::initializer_list<std::string_view> operators);
  template <class... Args>
  Result<ExprPtr> Make(Expr::Kind kind, int line, Args... args) {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = line;
    (e->args.push_back(std::move(args)), ...);
    TRY(SetHeight(e.get()));
    return e;
  }
  Status SetHeight(Expr* e);  // again, when arguments were added
  static bool IsConstant(std::string_view name);
  Result<ExprPtr> ParseOneTarget(bool with_namespace);

  const Token& Now() const { return tokens_[at_]; }
  const Token& Next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token& Take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  static bool Is(const Token& t, Token::Kind kind, std::string_view text) { return t.kind == kind && t.text == text; }
  bool IsOp(std::string_view text) const { return Is(Now(), Token::kOperator, text); }
  bool IsWord(std::string_view text) const { return Is(Now(), Token::kName, text); }
  bool TakeOp(std::string_view text) { return IsOp(text) && (Take(), true); }
  bool TakeWord(std::string_view text) { return IsWord(text) && (Take(), true); }
  Status ExpectOp(std::string_view text);
  Status Expect(Token::Kind kind);
  Result<std::string> ExpectName();
  Error Fail(std::string_view what) const { return BadTemplate(Now().line, what); }
  Error Unexpected(std::string_view wanted) const;
  int Symbol(const std::string& name);
  // A name is read or set in the macros that are open: each knows whether its body asks for `caller`, `kwargs`, `varargs`.
  void Mention(const std::string& name, bool set);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int fors_ = 0, loops_ = 0;  // for statements that are open, and those of them that a break would end
  // In an if or a condition unknown filters and tests are errors only when they are reached.
  bool soft_ = false;
  std::vector<Error> unknown_;
  struct Use {
    bool read = false, set = false;
  };
  std::vector<std::unordered_map<std::string, Use>> macros_;
  std::unordered_map<std::string, int> symbols_;
  Program program_;
};

}  // namespace sotto::jinja
