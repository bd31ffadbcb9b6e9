// Nothing large is allocated outside the plan, and a decoding step allocates nothing at all.
#include <gtest/gtest.h>

#include <fstream>

#include "engine/transcribe.h"
#include "heap_probe.h"
#include "process.h"
#include "running.h"

namespace sotto {
namespace {

TEST(Allocations, NoneAbove64KiBFromLoadToTheLastToken) {
  const TempDir dir;
  WriteRandomModel(dir / "model", {.d_model = 128, .heads = 2, .encoder_layers = 1, .decoder_layers = 2, .ffn = 512});
  WriteTones(dir / "a.wav", 4);
  for (const char* weights : {"fp32", "int8"}) {
    StartHeapCount();
    const std::unique_ptr<Engine> engine = OpenEngine(dir / "model", SmallRequest(weights));
    Transcriber transcriber = Transcriber::Make(*engine, {}).value();
    const FileJob job{dir / "a.wav", [&]() -> Result<Transcript> {
                        return Transcript::InDirectory(dir.path(), "a", {TextFormat::kTxt}, "", false);
                      }};
    const auto results = transcriber.Transcribe(
        {job}, [](const FileResult&) { return Json::object(); }, nullptr, kGoOn);
    const HeapCount count = StopHeapCount();
    if (!count.available) GTEST_SKIP() << "malloc cannot be counted under a sanitizer";
    ASSERT_TRUE(results[0].status.ok());
    EXPECT_EQ(count.large, 0) << "largest: " << count.largest << " bytes";
    EXPECT_GT(count.calls, 0);  // the probe does count
  }
}

TEST(Allocations, AWindowIsHeardAndDecodedWithoutASingleOne) {
  const TempDir dir;
  WriteRandomModel(dir / "model", {.d_model = 128, .heads = 2, .encoder_layers = 2, .decoder_layers = 2, .ffn = 512});
  std::vector<float> samples(16000);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<float>(i % 97) / 97 - 0.5F;
  for (const char* weights : {"fp32", "fp16", "bf16", "int8"}) {
    const std::unique_ptr<Engine> engine = OpenEngine(dir / "model", SmallRequest(weights));
    WhisperDecoder decoder(engine->model(), engine->ops(), engine->tokens(), engine->run(kGenerate), 1);
    DecodeLane lane;
    lane.prompt = {engine->tokens().sot, engine->tokens().no_timestamps};
    lane.timestamps = false;
    lane.tokens.reserve(static_cast<size_t>(engine->model().info().context));
    DecodeLane* lanes[] = {&lane};
    StartHeapCount();
    Must(engine->Hear({samples}, 0));
    const bool ok = decoder.Decode(lanes, 32, kGoOn).ok();
    const HeapCount count = StopHeapCount();
    if (!count.available) GTEST_SKIP() << "malloc cannot be counted under a sanitizer";
    EXPECT_TRUE(ok);
    EXPECT_GT(lane.tokens.size(), 0U);
    EXPECT_EQ(count.calls, 0) << weights;
  }
}

TEST(Allocations, TheProbeSeesALargeOne) {
  StartHeapCount();
  std::vector<char> large(100 << 10);
  large[5] = 1;
  const HeapCount count = StopHeapCount();
  if (!count.available) GTEST_SKIP() << "malloc cannot be counted under a sanitizer";
  EXPECT_GE(count.large, 1);
}

}  // namespace
}  // namespace sotto
