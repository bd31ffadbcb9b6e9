// Audio-language models as two GGUF files, the language model's and its mmproj: the golden checkpoints of tests/golden/audio_llms,
// written with the names and the order of rows that such files have, must give the reference's logits as the directories do.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/audio_prompt.h"
#include "process.h"
#include "running.h"
#include "weights/gguf_names.h"
#include "weights/gguf_writer.h"

namespace sotto {
namespace {

const std::string kGolden = SOTTO_SOURCE_DIR "/tests/golden/";

void Check(const Status& status) { EXPECT_TRUE(status.ok()) << status.error().message; }

struct Case {
  std::string name, projector, architecture;
};

uint32_t Whole(const Json& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (config.contains(key)) return config[key].get<uint32_t>();
  ADD_FAILURE() << "no key " << *keys.begin();
  return 0;
}

// Rows of each head as 0, n/2, 1, n/2 + 1 …
std::vector<float> Paired(const std::vector<float>& rows, int64_t count, int64_t head_dim) {
  const auto width = static_cast<int64_t>(rows.size()) / count;
  std::vector<float> out(rows.size());
  for (int64_t r = 0; r < count; ++r) {
    const int64_t in_head = r % head_dim, to = r - in_head + in_head % (head_dim / 2) * 2 + in_head / (head_dim / 2);
    std::copy_n(rows.begin() + r * width, width, out.begin() + to * width);
  }
  return out;
}

class GgufAudio : public testing::TestWithParam<Case> {
 protected:
  // Tensors of the language model, or of the audio half.
  void Write(const std::string& path, GgufHeader header, bool audio) {
    const auto [name, projector, architecture] = GetParam();
    const ModelFiles files = Must(ModelFiles::Open(kGolden + "audio_llms/" + name + "/model"));
    const GgufFamily& family = *FindGgufFamily(audio ? projector : architecture, audio);
    const int64_t head_dim = config_["text_config"]["head_dim"];
    std::vector<std::vector<float>> values;
    Check(files.ForEachTensor([&](const TensorHeader& t) -> Status {
      if (t.name.starts_with("language_model.") == audio) return {};
      const std::string slot = PlainName(t.name), tensor = TensorOf(family, slot);
      EXPECT_FALSE(tensor.empty()) << t.name;
      header.Tensor(tensor, *FindGgmlType("F32"), t.shape);
      std::vector<float> data(t.bytes / 4);
      TRY(files.file(t.file).ReadAt(t.offset, std::as_writable_bytes(std::span(data))));
      const bool heads = slot.find("q_proj") != slot.npos || slot.find("k_proj") != slot.npos;
      values.push_back(family.paired_heads && heads ? Paired(data, t.shape[0], head_dim) : data);
      return {};
    }));
    GgufWriter writer = Must(GgufWriter::Create(path, header));
    for (size_t i = 0; i < values.size(); ++i) Check(writer.Write(i, 0, std::as_bytes(std::span(values[i]))));
    Check(writer.Commit());
  }
  void WriteText() {
    const Json& c = config_["text_config"];
    const std::string a = GetParam().architecture + ".";
    GgufHeader h;
    h.Text("general.architecture", GetParam().architecture);
    h.Whole(a + "block_count", Whole(c, {"num_hidden_layers"}));
    h.Whole(a + "embedding_length", Whole(c, {"hidden_size"}));
    h.Whole(a + "feed_forward_length", Whole(c, {"intermediate_size"}));
    h.Whole(a + "attention.head_count", Whole(c, {"num_attention_heads"}));
    h.Whole(a + "attention.head_count_kv", Whole(c, {"num_key_value_heads"}));
    h.Whole(a + "attention.key_length", Whole(c, {"head_dim"}));
    h.Whole(a + "context_length", Whole(c, {"max_position_embeddings"}));
    h.Real(a + "attention.layer_norm_rms_epsilon", c.value("rms_norm_eps", 1e-6F));
    const Json rope = c.value("rope_parameters", Json::object());
    h.Real(a + "rope.freq_base", rope.value("rope_theta", 10000.0F));
    Write(dir_ / "text.gguf", std::move(h), false);
  }
  void WriteAudio() {
    const Json& c = config_["audio_config"];
    const std::string a = "clip.audio.";
    GgufHeader h;
    h.Text("general.architecture", "clip");
    h.Flag("clip.has_audio_encoder", true);
    h.Text("clip.projector_type", GetParam().projector);
    h.Whole(a + "embedding_length", Whole(c, {"d_model", "hidden_size"}));
    h.Whole(a + "block_count", Whole(c, {"encoder_layers", "num_hidden_layers"}));
    h.Whole(a + "attention.head_count", Whole(c, {"encoder_attention_heads", "num_attention_heads"}));
    h.Whole(a + "feed_forward_length", Whole(c, {"encoder_ffn_dim", "intermediate_size"}));
    h.Whole(a + "num_mel_bins", Whole(c, {"num_mel_bins"}));
    if (config_.contains("stack_factor")) h.Whole(a + "projector.stack_factor", Whole(config_, {"stack_factor"}));
    Write(dir_ / "mmproj.gguf", std::move(h), true);
  }

  TempDir dir_;
  Json config_ = Must(ReadJson(kGolden + "audio_llms/" + GetParam().name + "/model/config.json", Code::kBadInput));
};

TEST_P(GgufAudio, TwoFilesAreTheDirectory) {
  WriteText();
  WriteAudio();
  PlanRequest request = SmallRequest("fp32", "fp32");
  request.tokenizer = false;
  request.context = 1024;
  ModelDir files = Must(FindModel(dir_ / "text.gguf", ModelUse::kRun));
  files.mmproj_path = dir_ / "mmproj.gguf";
  const auto engine = Must(Engine::Open(Must(PlanModel(files, request)), [](uint64_t, uint64_t) { return true; }));
  const int32_t placeholder = AudioPlaceholder(config_).value();
  const Json cases = Must(ReadJson(kGolden + "audio_llms/" + GetParam().name + "/expected.json", Code::kBadInput));
  for (const Json& one : cases) {
    if (one.contains("joined")) continue;  // the same windows: audio_llm_golden_test.cc
    std::vector<std::string> audios, warnings;
    for (const Json& name : one["audio"]) audios.push_back(kGolden + "whisper/audio/" + name.get<std::string>());
    TextSession session(*engine);
    std::vector<std::vector<float>> logits;
    Must(ReadPrompt(session, *engine, one["ids"].get<std::vector<int32_t>>(), placeholder, audios, kGoOn, &warnings,
                    [&](std::span<const float> row) { logits.emplace_back(row.begin(), row.end()); }));
    float worst = 0;
    for (size_t i = 0; i < one["logit_rows"].size(); ++i)
      for (size_t j = 0; j < one["logits"][i].size(); ++j)
        worst = std::max(
            worst, std::fabs(logits.at(one["logit_rows"][i].get<size_t>()).at(j) - one["logits"][i][j].get<float>()));
    EXPECT_LE(worst, 1e-5F * one["largest_logit"].get<float>());
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufAudio,
                         testing::Values(Case{"ultravox-v0.5", "ultravox", "llama"},
                                         Case{"qwen2-audio", "qwen2a", "qwen2"}, Case{"voxtral", "voxtral", "llama"}),
                         [](const auto& info) { return info.param.projector; });

}  // namespace
}  // namespace sotto
