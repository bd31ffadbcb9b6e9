// A parsed template. Names of variables are numbers, so that scopes are searched without comparing text.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace sotto::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum Kind {
    kConst,
    kName,   // symbol
    kNsRef,  // symbol.name, as a target only
    kList,
    kTuple,
    kDict,  // key, value, key, value …
    kNot,
    kNegative,
    kPositive,
    kArithmetic,  // name: one operator of Arithmetic()
    kAnd,
    kOr,
    kCompare,  // name: one letter for each operator between args: = ! < > l g i(n) n(ot in)
    kConcat,
    kCondition,  // test, then, else (may be null)
    kAttribute,  // args[0].name
    kItem,       // args[0][args[1]]
    kSlice,      // args[0][args[1]:args[2]:args[3]], each of the three may be null
    kCall,       // args[0](the others)
    kFilter,     // args[0] | name(the others)
    kTest,       // args[0] is name(the others)
  };
  Kind kind = kConst;
  int line = 1;
  int height = 1;  // of the tree below: bounded, so that no recursion over it overflows the stack
  int symbol = -1;
  std::string name;
  Value value;
  std::vector<ExprPtr> args;
  std::vector<std::string> names;  // of a call: the names of its last arguments
  ExprPtr star, stars;             // of a call: *star, **stars
};

struct Stmt;
using Body = std::vector<Stmt>;

struct Parameter {
  int symbol = -1;
  std::string name;
  ExprPtr otherwise;  // may be null
};

struct Stmt {
  enum Kind {
    kData,         // text
    kOutput,       // exprs[0]
    kSet,          // exprs: target, value
    kSetBlock,     // exprs: target, filters over the name "" (may be null)
    kIf,           // exprs: the conditions; bodies: one for each, and the else's
    kFor,          // exprs: target, iterable, filter (may be null); bodies: the loop's, the else's (may be missing)
    kMacro,        // symbol, text: its name
    kCall,         // exprs: the call (null for a generation block)
    kFilterBlock,  // exprs: filters over the name ""
    kWith,         // exprs: target, value, target, value …
    kBreak,
    kContinue,
  };
  Kind kind = kData;
  int line = 1;
  int symbol = -1;
  bool recursive = false;
  bool caller = false, kwargs = false, varargs = false;  // of a macro or call: its body names these
  std::string text;
  std::vector<ExprPtr> exprs;
  std::vector<Body> bodies;
  std::vector<Parameter> parameters;
};

struct Program {
  Body body;
  std::vector<std::string> symbols;
  int content = -1, loop = -1, caller = -1, kwargs = -1, varargs = -1;  // symbols with a meaning; content is ""
};

}  // namespace sotto::jinja
