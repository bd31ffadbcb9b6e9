// The tests' own main: they name files of the source tree by paths relative to it.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (chdir(SOTTO_ROOT) != 0) {
    std::perror(SOTTO_ROOT);
    return 1;
  }
  return RUN_ALL_TESTS();
}
