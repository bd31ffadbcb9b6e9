// The tests' own main: they name files of the source tree by paths relative to it.
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  setenv("SOTTO_MACHINE", "/nonexistent", 1);  // whether somebody has calibrated this machine changes no test
  if (chdir(SOTTO_ROOT) != 0) {                // first: parameters of tests are read from directories when gtest starts
    std::perror(SOTTO_ROOT);
    return 1;
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
