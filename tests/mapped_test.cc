// Packed matrices that are used where they lie in their file: the same numbers, in pages that the plan counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "cli/options.h"
#include "engine/pack/inspect.h"
#include "engine/pack/pack.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kLm = SOTTO_SOURCE_DIR "/models/demo-lm", kGguf = SOTTO_SOURCE_DIR "/tests/golden/gguf_models/";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // a sanitizer's shadow memory is not ours to plan
#else
constexpr bool kSanitized = false;
#endif

struct Model {
  TempDir dir;
  std::string path = dir / "packed";
  Model() {
    const PackRequest request{.bits = 4.3, .out = path, .threads = 2};
    Must(Pack(Must(FindModel(kLm, ModelUse::kRun)), request, [](uint64_t, uint64_t) { return true; }));
  }
};
const std::string& Packed43() {
  static const Model model;
  return model.path;
}
std::string CopyTo(const TempDir& dir) {
  fs::copy(Packed43(), dir / "copy", fs::copy_options::recursive);
  return dir / "copy";
}
std::string FileOf(const std::string& model) { return model + "/model.safetensors"; }

Ran Say(const std::string& model, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"run", model, "--raw", "The key", "-n", "12", "-t", "2", "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunSotto(arguments);
}
Json Document(const Ran& ran) {
  EXPECT_TRUE(ran.code == 0 || ran.code == 5) << ran.err << ran.out;
  return Must(ParseJson(ran.out, "stdout", Code::kFailed));
}

std::unique_ptr<Engine> Open(const std::string& model, bool mapped) {
  PlanRequest request = SmallRequest("auto", "fp32");
  request.mapped = mapped;
  return OpenEngine(model, request);
}
std::vector<int32_t> SomeIds() {
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(i * 37 % 512);
  return ids;
}

TEST(Mapped, NumbersAreTheSame) {
  const auto read = Open(Packed43(), false), mapped = Open(Packed43(), true);
  const std::vector<int32_t> ids = SomeIds();
  for (const size_t piece : {size_t{1}, ids.size()})
    EXPECT_EQ(LogitRows(*read, ids, piece), LogitRows(*mapped, ids, piece));
}

TEST(Mapped, TheTextIsTheSameAndThePagesCount) {
  const Json read = Document(Say(Packed43(), {})), mapped = Document(Say(Packed43(), {"--mapped"}));
  EXPECT_EQ(read["text"], mapped["text"]);
  const uint64_t pages = mapped["plan"]["breakdown"]["mapped_weight_bytes"],
                 in_blocks = Must(Inspect(Packed43())).packed_bytes;
  EXPECT_EQ(pages % kPage, 0U);
  EXPECT_GE(pages, in_blocks);
  EXPECT_LE(pages, in_blocks + 2 * kPage);
  EXPECT_EQ(read["plan"]["breakdown"]["mapped_weight_bytes"], 0);
  const uint64_t planned = mapped["ledger"]["planned_bytes"], peak = mapped["ledger"]["peak_bytes"];
  EXPECT_LE(planned, read["ledger"]["planned_bytes"].get<uint64_t>() + 2 * kPage);
  EXPECT_GE(planned, pages);
  EXPECT_EQ(mapped["ledger"]["components"]["mapped"]["planned_bytes"], pages);
  EXPECT_FALSE(read["ledger"]["components"].contains("mapped"));
  if (kSanitized) return;
  EXPECT_LE(peak, planned);
  EXPECT_LE(static_cast<double>(planned), 1.03 * static_cast<double>(peak) + 8 * kMiB);
  const Ran table = RunSotto({"plan", Packed43(), "--mapped"});
  EXPECT_THAT(table.out, HasSubstr("of these mapped"));
  EXPECT_THAT(table.out, HasSubstr(std::to_string(pages)));
}

TEST(Mapped, TheSmallestBudgetWorksAndOneByteLessIsRefused) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is not in the plan";
  const Json refusal = Document(Say(Packed43(), {"--mapped", "--memory", "1MiB"}))["error"];
  const uint64_t least = refusal["smallest_budget_bytes"];
  EXPECT_THAT(refusal["message"].get<std::string>(), testing::Not(HasSubstr("--resident")));
  const Ran fits = Say(Packed43(), {"--mapped", "--memory", std::to_string(least)});
  ASSERT_EQ(fits.code, 0) << fits.err;
  EXPECT_LE(Document(fits)["ledger"]["peak_bytes"].get<uint64_t>(), least);
  EXPECT_EQ(Say(Packed43(), {"--mapped", "--memory", std::to_string(least - 1)}).code, 5);
}

// What is written into the file is seen in the matrix: it is no copy.
TEST(Mapped, MatricesAreTheFilesOwnPages) {
  const TempDir dir;
  const std::string model = CopyTo(dir);
  for (const bool mapped : {false, true}) {
    const auto engine = Open(model, mapped);
    const Layout& l = engine->layout();
    uint32_t id = 0;
    while (!l.plan.recipe[id].planes) ++id;
    const Planned& p = engine->planned();
    const auto first = std::find_if(p.stored.kept.begin(), p.stored.kept.end(), [](const Kept& k) { return k.planes; });
    const volatile std::byte* const last = engine->run(kGenerate).At(id) + first->bytes - 1;
    EXPECT_EQ(std::byte{*last}, std::byte{0});
    std::fstream file(FileOf(model), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(first->offset + first->bytes - 1));
    file.put('\x5A').flush();
    EXPECT_EQ(std::byte{*last}, std::byte{mapped ? uint8_t{0x5A} : uint8_t{0}});
    file.seekp(static_cast<std::streamoff>(first->offset + first->bytes - 1));
    file.put('\0');
  }
}

TEST(Mapped, TwoProcessesAtOnce) {
  const Json alone = Document(Say(Packed43(), {"--mapped"}));
  auto other = std::async(std::launch::async, [] { return Say(Packed43(), {"--mapped"}); });
  const Ran one = Say(Packed43(), {"--mapped"}), two = other.get();
  for (const Ran& ran : {one, two}) EXPECT_EQ(Document(ran)["text"], alone["text"]);
}

TEST(Mapped, DamageIsFound) {
  const TempDir dir;
  const std::string model = CopyTo(dir), name = FileOf(model);
  std::fstream file(name, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(name) / 2));
  file << "\x5A\xA5\x5A";
  file.close();
  const Ran ran = Say(model, {"--mapped"});
  EXPECT_EQ(ran.code, 4);
  EXPECT_THAT(ran.out, HasSubstr("is damaged: its checksum is another"));
}

TEST(Mapped, AFileThatIsCutWhileItIsUsedEndsTheProcessWithASentence) {
  const TempDir dir;
  const std::string model = CopyTo(dir);
  const auto cut = [&] {
    (void)cli::StopFlag();  // installs what sotto's commands install
    const auto engine = Open(model, true);
    fs::resize_file(FileOf(model), kPage);
    LogitRows(*engine, SomeIds(), 8);
  };
  EXPECT_EXIT(cut(), testing::ExitedWithCode(4), "became shorter or can no longer be read");
}

// As older versions packed: blocks anywhere. Eight bytes more of header move all of them.
void MoveBlocks(const std::string& model) {
  std::string text = Must(ReadSmallFile(FileOf(model), kGiB, Code::kFailed));
  uint64_t header = 0;
  std::memcpy(&header, text.data(), sizeof header);
  text.insert(sizeof header + header, 8, ' ');
  header += 8;
  std::memcpy(text.data(), &header, sizeof header);
  ASSERT_TRUE(WriteAtomically(FileOf(model), text).ok());
}

TEST(Mapped, WhatCannotBeIsSaid) {
  const TempDir dir;
  const std::string old = CopyTo(dir);
  MoveBlocks(old);
  EXPECT_EQ(Document(Say(old, {}))["text"], Document(Say(Packed43(), {}))["text"]);
  const auto said = [](const std::string& model, std::vector<std::string> more) {
    more.emplace_back("--mapped");
    const Ran ran = Say(model, more);
    EXPECT_EQ(ran.code, 2) << ran.out;
    return ran.out;
  };
  EXPECT_THAT(said(old, {}), HasSubstr("was packed by an older sotto"));
  EXPECT_THAT(said(kLm, {}), HasSubstr("demo-lm holds fp16 weights, which loading converts: pack it first"));
  EXPECT_THAT(said(kGguf + "qwen2.gguf", {}), HasSubstr("holds gguf weights"));
  EXPECT_THAT(said(Packed43(), {"--resident", "2"}), HasSubstr("leave one of the two out"));
  EXPECT_THAT(said(Packed43(), {"--direct"}), HasSubstr("leave one of the two out"));
  EXPECT_THAT(said(Packed43(), {"--weights", "fp16"}), HasSubstr("leave --weights fp16 out"));
  EXPECT_EQ(RunSotto({"eval", "sensitivity", Packed43(), "--text", kLm + "/README.md", "--mapped"}).code, 2);
}

TEST(Mapped, FitChoosesOfWhatIsPackedAndPlanFilesKeepIt) {
  const TempDir dir;
  const std::string plan = dir / "plan.json";
  const Ran fit =
      RunSotto({"fit", kLm, "--packed", Packed43(), "--mapped", "--memory", "64MiB", "-t", "2", "--json", "-o", plan});
  ASSERT_EQ(fit.code, 0) << fit.out;
  for (const Json& choice : Document(fit)["alternatives"]) {
    EXPECT_THAT(choice["weights"].get<std::string>(), HasSubstr("packed 4.30"));
    EXPECT_EQ(choice["residency"]["mapped"], true);
  }
  const Json ran = Document(RunSotto({"run", "--plan", plan, "--raw", "The", "-n", "4", "--json"}));
  EXPECT_GT(ran["plan"]["breakdown"]["mapped_weight_bytes"], 0);
  EXPECT_EQ(RunSotto({"fit", Packed43(), "--mapped", "-t", "2", "-o", dir / "b.json"}).code, 0);
  EXPECT_EQ(RunSotto({"run", "--plan", dir / "b.json", "--mapped", "--raw", "The", "-n", "4"}).code, 0);
  EXPECT_EQ(RunSotto({"fit", kLm, "--mapped"}).code, 2);
}

}  // namespace
}  // namespace sotto
