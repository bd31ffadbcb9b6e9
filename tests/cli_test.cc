// The command line as people and scripts meet it: exit codes, one sentence for each failure, formats, interruption.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/json.h"
#include "process.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;
const std::string kModel = SOTTO_SOURCE_DIR "/tests/golden/whisper/english-bf16/model";
const std::string kAudio = SOTTO_SOURCE_DIR "/tests/golden/whisper/audio/short.wav";
const std::string kLong = SOTTO_SOURCE_DIR "/tests/golden/whisper/audio/long.wav";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A 16 kHz mono float WAV.
void WriteFloats(const std::string& path, const std::vector<float>& samples, uint16_t channels = 1,
                 uint32_t rate = 16000) {
  std::ofstream out(path, std::ios::binary);
  const auto put = [&](auto v) { out.write(reinterpret_cast<const char*>(&v), sizeof v); };
  const auto bytes = static_cast<uint32_t>(samples.size() * 4);
  out << "RIFF";
  put(36 + bytes);
  out << "WAVEfmt ";
  put(uint32_t{16});
  put(uint16_t{3});
  put(channels);
  put(rate);
  put(rate * channels * 4U);
  put(static_cast<uint16_t>(channels * 4));
  put(uint16_t{32});
  out << "data";
  put(bytes);
  out.write(reinterpret_cast<const char*>(samples.data()), bytes);
}

std::vector<float> Tone(size_t n, size_t channels = 1) {
  std::vector<float> x(n * channels);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.3F * std::sin(static_cast<float>(i / channels) * 0.05F);
  return x;
}

bool OneSentence(const std::string& err) {
  return err.starts_with("sotto: ") && err.ends_with("\n") && std::count(err.begin(), err.end(), '\n') == 1;
}

Ran Transcribe(const std::string& audio, std::vector<std::string> more = {}, const RunOptions& o = {}) {
  std::vector<std::string> args = {"transcribe", kModel, audio, "--memory", "512MiB"};
  args.insert(args.end(), more.begin(), more.end());
  return RunSotto(args, o);
}

TEST(Cli, BadAudioEndsInASentenceAndExitCode3) {
  const TempDir dir;
  std::ofstream(dir / "text.wav") << "this is not audio, whatever its name says\n";
  std::ofstream(dir / "empty.wav");
  WriteFloats(dir / "zero_seconds.wav", {});
  std::vector<float> nan = Tone(16000);
  nan[8000] = std::numeric_limits<float>::quiet_NaN();
  WriteFloats(dir / "nan.wav", nan);
  nan[8000] = std::numeric_limits<float>::infinity();
  WriteFloats(dir / "infinite.wav", nan);
  WriteFloats(dir / "rate.wav", Tone(16000), 1, 4000000000U);
  WriteFloats(dir / "channels.wav", Tone(100, 1), 0);
  std::string forged = ReadAll(kAudio).substr(0, 44);
  forged[16] = 0;  // fmt chunk of no bytes
  std::ofstream(dir / "forged.wav", std::ios::binary) << forged;
  fs::create_directory(dir / "folder.wav");
  for (const char* name : {"text.wav", "empty.wav", "zero_seconds.wav", "nan.wav", "infinite.wav", "rate.wav",
                           "channels.wav", "forged.wav", "folder.wav", "missing.wav"}) {
    const Ran ran = Transcribe(dir / name);
    EXPECT_EQ(ran.code, 3) << name << ": " << ran.err;
    EXPECT_TRUE(OneSentence(ran.err)) << name << ": " << ran.err;
    EXPECT_NE(ran.err.find(name), std::string::npos) << ran.err;
    const Ran json = Transcribe(dir / name, {"--json"});
    EXPECT_EQ(json.code, 3);
    Result<Json> j = ParseJson(json.out, name, Code::kFailed);
    ASSERT_TRUE(j.ok()) << json.out;
    EXPECT_EQ((*j)["error"]["code"], "bad_input");
  }
  const Ran unplugged = Transcribe("-", {}, {.close_stdin = true});
  EXPECT_EQ(unplugged.code, 3) << unplugged.err;
  EXPECT_TRUE(OneSentence(unplugged.err)) << unplugged.err;
}

TEST(Cli, UnusualButSoundAudioIsHeard) {
  const TempDir dir;
  WriteFloats(dir / "eight.wav", Tone(16000, 8), 8);
  WriteFloats(dir / "192k.wav", Tone(192000), 1, 192000);
  for (const char* name : {"eight.wav", "192k.wav"}) {
    const Ran ran = Transcribe(dir / name);
    EXPECT_EQ(ran.code, 0) << name << ran.err;
  }
  // Cut short: what is there is used, and a warning says so.
  const std::string whole = ReadAll(kAudio);
  std::ofstream(dir / "cut.wav", std::ios::binary) << whole.substr(0, whole.size() / 2);
  const Ran cut = Transcribe(dir / "cut.wav");
  EXPECT_EQ(cut.code, 0);
  EXPECT_NE(cut.err.find("warning"), std::string::npos) << cut.err;
  EXPECT_NE(cut.err.find("cut.wav"), std::string::npos) << cut.err;
}

TEST(Cli, SilenceGivesNoText) {
  const TempDir dir;
  WriteFloats(dir / "silence.wav", std::vector<float>(16000 * 12, 0.0F));
  const Ran ran = Transcribe(dir / "silence.wav");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "");
}

TEST(Cli, StandardInputIsHeardLikeAFile) {
  const Ran file = Transcribe(kLong, {"--format", "srt"});
  const Ran piped = Transcribe("-", {"--format", "srt"}, {.stdin_path = kLong});
  EXPECT_EQ(file.code, 0);
  EXPECT_EQ(piped.code, 0) << piped.err;
  EXPECT_EQ(file.out, piped.out);
  EXPECT_NE(file.out.find(" --> "), std::string::npos);
}

TEST(Cli, OfSeveralFilesTheBadOneIsNamedAndTheOthersAreDone) {
  const TempDir dir;
  std::ofstream(dir / "bad.wav") << "no audio";
  const Ran ran = RunSotto({"transcribe", kModel, kAudio, dir / "bad.wav", kLong, "-o", dir / "out", "--format", "all",
                            "--memory", "512MiB"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find("bad.wav"), std::string::npos);
  for (const char* name : {"short.txt", "short.srt", "long.vtt", "long.tsv", "long.json"})
    EXPECT_TRUE(fs::exists(dir / ("out/" + std::string(name)))) << name;
  EXPECT_FALSE(fs::exists(dir / "out/bad.txt"));
  for (const auto& entry : fs::directory_iterator(dir / "out"))
    EXPECT_EQ(entry.path().string().find(".partial"), std::string::npos) << entry.path();
  Result<Json> j = ParseJson(ReadAll(dir / "out/long.json"), "long.json", Code::kFailed);
  ASSERT_TRUE(j.ok());
  std::string joined;
  for (const Json& s : (*j)["segments"]) joined += s["text"].get<std::string>();
  EXPECT_EQ(joined, (*j)["text"].get<std::string>());
  EXPECT_TRUE(j->contains("ledger"));
}

TEST(Cli, ABatchOfFilesGivesEachFileItsOwnText) {
  const TempDir dir;
  for (const char* batch : {"1", "2"})
    EXPECT_EQ(RunSotto({"transcribe", kModel, kAudio, kLong, "-o", dir / batch, "--format", "json", "--memory",
                        "512MiB", "--batch", batch})
                  .code,
              0);
  for (const char* name : {"/short.json", "/long.json"}) {
    const Json one = ParseJson(ReadAll(dir / ("1" + std::string(name))), name, Code::kFailed).value();
    const Json two = ParseJson(ReadAll(dir / ("2" + std::string(name))), name, Code::kFailed).value();
    EXPECT_EQ(one["segments"], two["segments"]) << name;
  }
}

TEST(Cli, ChunkedWindowsCoverTheWholeFile) {
  const TempDir dir;
  WriteTones(dir / "tones.wav", 37);
  for (const char* batch : {"1", "4"}) {
    const Ran ran = Transcribe(dir / "tones.wav", {"--chunked", "--batch", batch, "--json"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    const Json j = ParseJson(ran.out, "stdout", Code::kFailed).value();
    double last = 0;
    for (const Json& s : j["segments"]) {
      EXPECT_GE(s["start"].get<double>() + 1e-6, last);
      last = s["start"];
    }
    EXPECT_GT(last, 30);
  }
}

TEST(Cli, AnInterruptedRunGoesOnWhereItStopped) {
  const TempDir dir;
  WriteTones(dir / "talk.wav", 400);
  const std::vector<std::string> args = {"transcribe", kModel, dir / "talk.wav", "-o",    dir / "out",
                                         "--format",   "all",  "--memory",       "512MiB"};
  const Ran whole =
      RunSotto({"transcribe", kModel, dir / "talk.wav", "-o", dir / "whole", "--format", "all", "--memory", "512MiB"});
  ASSERT_EQ(whole.code, 0) << whole.err;
  bool interrupted = false;
  for (int ms = 40; ms <= 2000 && !interrupted; ms *= 2) {
    const Ran ran = RunSotto(args, {.interrupt_after_ms = ms});
    interrupted = ran.code == 130 && fs::exists(dir / "out/talk.sotto-resume");
    if (ran.code == 0) break;
  }
  if (!interrupted) GTEST_SKIP() << "the run was over before a signal could reach it";
  EXPECT_FALSE(fs::exists(dir / "out/talk.txt"));
  EXPECT_TRUE(fs::exists(dir / "out/talk.txt.partial"));
  std::vector<std::string> resume = args;
  resume.push_back("--resume");
  const Ran ran = RunSotto(resume);
  EXPECT_EQ(ran.code, 0) << ran.err;
  for (const char* name : {"/talk.txt", "/talk.srt", "/talk.vtt", "/talk.tsv"})
    EXPECT_EQ(ReadAll(dir / ("out" + std::string(name))), ReadAll(dir / ("whole" + std::string(name)))) << name;
  const Json a = ParseJson(ReadAll(dir / "out/talk.json"), "", Code::kFailed).value(),
             b = ParseJson(ReadAll(dir / "whole/talk.json"), "", Code::kFailed).value();
  EXPECT_EQ(a["text"], b["text"]);
  EXPECT_EQ(a["segments"], b["segments"]);
  EXPECT_FALSE(fs::exists(dir / "out/talk.sotto-resume"));
}

TEST(Cli, UsageErrorsAreExitCode2) {
  const TempDir dir;
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"nonsense"},
      {"plan"},
      {"plan", kModel, "--memory", "lots"},
      {"plan", kModel, "--memory", "0"},
      {"plan", kModel, "--weights", "fp7"},
      {"plan", kModel, "--kv", "q0"},
      {"plan", kModel, "--batch", "-3"},
      {"plan", kModel, "--context", "100000"},
      {"plan", kModel, "--frobnicate"},
      {"plan", kModel, "--timeline", dir / "x.gif"},
      {"transcribe", kModel, kAudio, "--format", "docx"},
      {"transcribe", kModel, kAudio, "--resume"},
      {"transcribe", kModel, kAudio, "--batch", "4"},
      {"transcribe", kModel, kAudio, "--language", "xx"},
      {"transcribe", kModel, kAudio, "--task", "translate"},
      {"logits", kModel, "--audio", kAudio},
      {"logits", kModel, "--audio", kAudio, "--ids", "1", "--stage", "mel", "-o", dir / "x.npy"},
      {"logits", kModel, "--audio", kAudio, "--ids", "999999", "-o", dir / "x.npy"}};
  for (const auto& c : cases) {
    const Ran ran = RunSotto(c);
    EXPECT_EQ(ran.code, 2) << testing::PrintToString(c) << ran.err;
    EXPECT_TRUE(OneSentence(ran.err)) << ran.err;
  }
}

TEST(Cli, BadModelsAreExitCode4) {
  const TempDir dir;
  fs::create_directory(dir / "nothing");
  fs::copy(kModel, dir / "cut", fs::copy_options::recursive);
  fs::resize_file(dir / "cut/model-00001-of-00002.safetensors", 1000);
  fs::copy(kModel, dir / "wrong", fs::copy_options::recursive);
  Json config = ParseJson(ReadAll(kModel + "/config.json"), "", Code::kFailed).value();
  config["d_model"] = 128;
  std::ofstream(dir / "wrong/config.json") << config.dump();
  fs::copy(kModel, dir / "type", fs::copy_options::recursive);
  config["model_type"] = "mamba";
  std::ofstream(dir / "type/config.json") << config.dump();
  fs::copy(kModel, dir / "tokenizer", fs::copy_options::recursive);
  std::ofstream(dir / "tokenizer/tokenizer.json") << "{\"model\": {";
  for (const char* name : {"nothing", "cut", "wrong", "type", "tokenizer", "missing"}) {
    const Ran ran = RunSotto({"transcribe", dir / name, kAudio, "--memory", "512MiB"});
    EXPECT_EQ(ran.code, 4) << name << ": " << ran.err;
    EXPECT_TRUE(OneSentence(ran.err)) << name << ": " << ran.err;
  }
  EXPECT_EQ(
      RunSotto({"transcribe", "openai/whisper-tiny", kAudio}, {.environment = {{"HF_HUB_CACHE", dir.path()}}}).code, 4);
}

TEST(Cli, ForeignDevicesAreExitCode1) { EXPECT_EQ(RunSotto({"plan", kModel, "--device", "cuda:0"}).code, 1); }

TEST(Cli, EnvironmentVariablesCountBelowFlags) {
  const RunOptions small{.environment = {{"SOTTO_MEMORY", "1MiB"}}};
  EXPECT_EQ(RunSotto({"plan", kModel}, small).code, 5);
  EXPECT_EQ(RunSotto({"plan", kModel, "--memory", "512MiB"}, small).code, 0);
}

TEST(Cli, TokenizeGoesThereAndBack) {
  const TempDir dir;
  std::ofstream(dir / "text") << " The quick brown fox, 42 times! ÄÖ 中文 🙂";
  const Ran ids = RunSotto({"tokenize", kModel, "--json"}, {.stdin_path = dir / "text"});
  ASSERT_EQ(ids.code, 0) << ids.err;
  std::ofstream(dir / "ids") << ids.out;
  const Ran text = RunSotto({"tokenize", kModel, "--decode", "--json"}, {.stdin_path = dir / "ids"});
  EXPECT_EQ(ParseJson(text.out, "", Code::kFailed).value()["text"].get<std::string>(), ReadAll(dir / "text"));
}

TEST(Cli, TimelinesAreDrawn) {
  const TempDir dir;
  EXPECT_EQ(RunSotto({"plan", "openai/whisper-base", "--memory", "4GiB", "--timeline", dir / "t.svg"}).code, 0);
  EXPECT_EQ(RunSotto({"plan", "openai/whisper-base", "--memory", "4GiB", "--timeline", dir / "t.png"}).code, 0);
  EXPECT_NE(ReadAll(dir / "t.svg").find("encoder weights"), std::string::npos);
  EXPECT_TRUE(ReadAll(dir / "t.png").starts_with("\x89PNG"));
}

TEST(Cli, LogitsWritesWhatItSays) {
  const TempDir dir;
  const Ran ran = RunSotto({"logits", kModel, "--audio", kAudio, "--ids", "321,330", "--greedy", "5", "--ignore-eos",
                            "-o", dir / "l.npy", "--memory", "256MiB"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ParseJson(ran.out, "", Code::kFailed).value()["ids"].size(), 5U);
  EXPECT_TRUE(ReadAll(dir / "l.npy").find("'shape': (2, ") != std::string::npos);
  for (const char* stage : {"mel", "encoder"})
    EXPECT_EQ(
        RunSotto({"logits", kModel, "--audio", kAudio, "--stage", stage, "-o", dir / "s.npy", "--memory", "256MiB"})
            .code,
        0);
}

}  // namespace
}  // namespace sotto
