// sotto_bench_lm MODEL: sotto's side of bench/peers/lm.py. Lines on stdin, a line of JSON for each:
//
//   prefill N D    N tokens at once behind D others: {"s": seconds}
//   decode N D     N tokens one by one behind D others
//   peak           {"peak": bytes of resident memory so far, "planned": bytes}
//
// The first line, when loaded, is {"load_s": seconds}. Tokens are arbitrary: time does not depend on them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <sstream>

#include "engine/text_session.h"
#include "plan/machine.h"
#include "timing.h"

namespace sotto {
namespace {

struct Options {
  std::string model, weights = "auto", kv = "fp16", resident = "all";
  int64_t context = 8704;
  int threads = 2;
  bool direct = false;
  uint64_t memory = 0;  // bytes; 0: no budget
};

std::vector<int32_t> Tokens(int64_t n, int64_t vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) ids[static_cast<size_t>(i)] = static_cast<int32_t>(1 + i * 7919 % (vocab_size - 1));
  return ids;
}

Status Serve(const Options& o) {
  PlanRequest request;
  request.weights = o.weights;
  request.kv = o.kv;
  request.context = o.context;
  request.threads = o.threads;
  request.resident = o.resident;
  request.direct = o.direct;
  if (o.memory > 0) request.budget = Bytes{o.memory};
  request.tokenizer = false;
  const double start = Now();
  const auto engine = TRY(
      Engine::Open(TRY(PlanModel(TRY(FindModel(o.model, ModelUse::kRun)), request)), [](auto, auto) { return true; }));
  fmt::print("{}\n", Json{{"load_s", Now() - start}}.dump());
  std::fflush(stdout);
  TextSession session(*engine);
  const std::atomic<bool> go_on{false};
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string what;
    int64_t n = 0, depth = 0;
    in >> what >> n >> depth;
    Json answer;
    if (what == "peak") {
      answer = {{"peak", PeakResident().n}, {"planned", engine->planned().layout.plan.total.n}};
    } else {
      session.Rewind(std::min(depth, session.length()));
      const int64_t vocab_size = engine->model().info().vocab_size;
      TRY(session.Read(Tokens(depth - session.length(), vocab_size), go_on));
      const std::vector<int32_t> ids = Tokens(n, vocab_size);
      const double begin = Now();
      if (what == "prefill") TRY(session.Read(ids, go_on));
      if (what == "decode")
        for (const int32_t id : ids) TRY(session.Read({&id, 1}, go_on));
      answer = {{"s", Now() - begin}};
    }
    fmt::print("{}\n", answer.dump());
    std::fflush(stdout);
  }
  return {};
}

}  // namespace
}  // namespace sotto

int main(int argc, char** argv) {
  sotto::Options o;
  CLI::App app("Times a language model; see bench/peers/lm.py");
  app.add_option("MODEL", o.model)->required();
  app.add_option("--weights", o.weights);
  app.add_option("--kv", o.kv);
  app.add_option("--context", o.context);
  app.add_option("--threads", o.threads);
  app.add_option("--resident", o.resident);
  app.add_option("--memory", o.memory, "bytes, for --resident auto");
  app.add_flag("--direct", o.direct);
  CLI11_PARSE(app, argc, argv);
  const sotto::Status done = sotto::Serve(o);
  if (done.ok()) return 0;
  fmt::print(stderr, "{}\n", done.error().message);
  return static_cast<int>(done.error().code);
}
