#include "base/result.h"

#include <cstdio>
#include <cstdlib>

namespace sotto {

const char* CodeName(Code code) {
  switch (code) {
    case Code::kFailed: return "failed";
    case Code::kUsage: return "usage";
    case Code::kBadInput: return "bad_input";
    case Code::kBadModel: return "bad_model";
    case Code::kOverBudget: return "over_budget";
    case Code::kInterrupted: return "interrupted";
  }
  return "failed";
}

void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "sotto: internal error: %s does not hold at %s:%d; please report this as a bug\n", expression,
               file, line);
  std::abort();
}

}  // namespace sotto
