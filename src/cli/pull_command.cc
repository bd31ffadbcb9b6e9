// sotto pull: hands its arguments to sotto-pull (pull.h says why that is a program of its own).
#include "cli/options.h"
#include "cli/pull.h"

namespace sotto::cli {

void AddPull(CLI::App* root, Commands* commands) {
  CLI::App* app = root->add_subcommand("pull", "Fetch a model into the Hugging Face cache");
  app->set_help_flag();  // sotto-pull has its own
  app->prefix_command();
  commands->push_back({app, [app] { return Report(ExecPull(app->remaining()), false); }});
}

}  // namespace sotto::cli
