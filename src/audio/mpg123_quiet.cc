// libmpg123 reports damaged MP3 on stderr ("Note: Trying to resync...") unless a handle is told not to, and libsndfile,
// which makes the handle, never tells it. Our own mpg123_new stands before the library's for everything in this program
// and sets the flag. Where the symbol doesn't come first (a plugin of another program), MP3 decodes as well, only less
// quietly.
#include <dlfcn.h>

extern "C" {

// Same signature as in mpg123.h, whose development package is not needed for this.
__attribute__((visibility("default"))) void* mpg123_new(const char* decoder, int* error) {
  constexpr int kAddFlags = 2;   // MPG123_ADD_FLAGS
  constexpr long kQuiet = 0x20;  // MPG123_QUIET
  using New = void* (*)(const char*, int*);
  using Param = int (*)(void*, int, long, double);
  const auto create = reinterpret_cast<New>(::dlsym(RTLD_NEXT, "mpg123_new"));
  const auto param = reinterpret_cast<Param>(::dlsym(RTLD_NEXT, "mpg123_param"));
  if (create == nullptr) return nullptr;
  void* handle = create(decoder, error);
  if (handle != nullptr && param != nullptr) param(handle, kAddFlags, kQuiet, 0);
  return handle;
}

}  // extern "C"
