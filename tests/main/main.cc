// The tests' own main: they name files of the source tree by paths relative to it.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (chdir(SOTTO_ROOT) != 0) {  // first: parameters of tests are read from directories when gtest starts
    std::perror(SOTTO_ROOT);
    return 1;
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
