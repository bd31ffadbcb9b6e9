// sotto pull: placeholder replaced below
#include "cli/options.h"
namespace sotto::cli {
void AddPull(CLI::App*, Commands*) {}
}  // namespace sotto::cli
