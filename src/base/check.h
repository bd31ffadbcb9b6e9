// CHECK: an assertion that is always on and means "this is a bug in sotto". Input never reaches one. DCHECK is for inner
// loops and is off in release builds.
#pragma once

namespace sotto {
[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);
}

#define CHECK(cond) ((cond) ? void(0) : ::sotto::CheckFailed(#cond, __FILE__, __LINE__))
#ifdef NDEBUG
#define DCHECK(cond) void(0)
#else
#define DCHECK(cond) CHECK(cond)
#endif
