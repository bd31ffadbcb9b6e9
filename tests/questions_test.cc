// The questions that people ask `sotto plan`: each answer is compared with plain plans, over the catalogue.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "base/json.h"
#include "cli/plan_output.h"
#include "engine/solve.h"
#include "process.h"

namespace sotto {
namespace {

namespace fs = std::filesystem;

constexpr Variable kVariables[] = {Variable::kContext, Variable::kAudio, Variable::kBatch, Variable::kBeam};

std::vector<std::string> Catalogue() {
  std::vector<std::string> names;
  for (const auto& e : fs::recursive_directory_iterator(SOTTO_SOURCE_DIR "/catalog"))
    if (e.path().extension() == ".json") names.push_back(ReadJson(e.path().string(), Code::kBadInput).value()["name"]);
  std::sort(names.begin(), names.end());
  return names;
}

PlanRequest Asked(std::optional<Bytes> budget) {
  PlanRequest request;
  request.budget = budget;
  request.unbounded = !budget;
  request.threads = 2;
  return request;
}

void Set(Variable variable, int64_t value, PlanRequest* r) {
  switch (variable) {
    case Variable::kContext: r->context = value; break;
    case Variable::kAudio: r->audio_seconds = static_cast<double>(value); break;
    case Variable::kBatch: r->batch = value; break;
    case Variable::kBeam: r->beam = value; break;
  }
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Ran Plan(std::vector<std::string> args) {
  args.insert(args.begin(), "plan");
  return RunSotto(args, {.environment = {{"HF_HOME", "/nonexistent"}, {"SOTTO_THREADS", "2"}}});
}

Json PlanDocument(std::vector<std::string> args, int code = 0) {
  args.push_back("--json");
  const Ran ran = Plan(args);
  EXPECT_EQ(ran.code, code) << ran.out << ran.err;
  Result<Json> j = ParseJson(ran.out, "plan", Code::kFailed);
  EXPECT_TRUE(j.ok()) << ran.out;
  return j.ok() ? *j : Json::object();
}

class Questions : public testing::Test {
 protected:
  void SetUp() override { setenv("HF_HOME", "/nonexistent", 1); }  // the catalogue alone
  void TearDown() override { unsetenv("HF_HOME"); }
};

// What the plain plan says with these precisions and the variable at `value`.
Result<Planned> PlainAt(const ModelDir& dir, const Answer& a, Variable variable, int64_t value, Bytes budget) {
  PlanRequest request = Asked(budget);
  request.weights = NameOf(a.choice.weights);
  request.kv = a.choice.kv->name;
  Set(variable, value, &request);
  return PlanModel(dir, request);
}

void CheckAnswer(const ModelDir& dir, const Solution& s, const Answer& a, Bytes budget) {
  const auto plain = [&](int64_t value) { return PlainAt(dir, a, s.variable, value, budget); };
  if (!a.value) {
    const Planned least = plain(s.range.least).value();
    EXPECT_EQ(least.layout.plan.total.n, a.total.n);
    EXPECT_EQ(least.fits, a.limit == Limit::kNothing);
    return;
  }
  const Planned at = plain(*a.value).value();
  EXPECT_EQ(at.layout.plan.total.n, a.total.n);
  EXPECT_TRUE(at.fits);
  const Result<Planned> more = plain(*a.value + 1);
  if (a.limit == Limit::kMemory) {
    EXPECT_EQ(more.value().layout.plan.total.n, a.next->n);
    EXPECT_GT(a.next->n, budget.n);
  } else if (more.ok()) {  // audio that the model no longer hears
    EXPECT_EQ(s.variable, Variable::kAudio);
    EXPECT_EQ(more->layout.model->info().audio_tokens, at.layout.model->info().audio_tokens);
  } else {
    EXPECT_EQ(more.error().code, Code::kUsage) << more.error().message;
  }
}

TEST_F(Questions, TheAnswerFitsAndOneMoreDoesNot) {
  const std::vector<std::string> names = Catalogue();
  int entries = 0, by_memory = 0, by_model = 0, refused = 0;
  for (size_t i = 0; i < names.size(); i += 3, ++entries) {
    const ModelDir dir = FindModel(names[i], ModelUse::kPlan).value();
    const Planned usual = PlanModel(dir, Asked({})).value();
    const uint64_t full = usual.layout.plan.total.n, least = usual.smallest.n;
    for (const Variable variable : kVariables)
      for (const uint64_t budget : {least / 2, least + least / 16, full + full / 4}) {
        SCOPED_TRACE(names[i] + " " + std::string(NameOf(variable)) + " " + std::to_string(budget));
        const Result<Solution> s = Solve(dir, Asked(Bytes{budget}), variable, false);
        if (usual.layout.model->info().type == "decoder" && variable == Variable::kAudio) {
          EXPECT_EQ(s.error().code, Code::kUsage);
          continue;
        }
        ASSERT_TRUE(s.ok()) << s.error().message;
        for (const Answer& a : s->answers) {
          CheckAnswer(dir, *s, a, Bytes{budget});
          by_memory += a.value && a.limit == Limit::kMemory;
          by_model += a.limit == Limit::kModel;
          refused += !a.value && a.limit == Limit::kMemory;
        }
        // The plan that comes with the answer is that of the answer.
        const Answer& best = s->answers[s->best];
        EXPECT_EQ(s->planned.layout.plan.total.n, best.total.n);
        EXPECT_EQ(s->planned.fits, best.value || best.limit == Limit::kNothing);
        EXPECT_EQ(s->planned.layout.choice.weights, best.choice.weights);
      }
  }
  EXPECT_GE(entries, 30);
  EXPECT_GT(by_memory, 200);
  EXPECT_GT(by_model, 100);
  EXPECT_GT(refused, 100);
}

// Bisection is right only where a larger value never takes less.
TEST_F(Questions, MemoryIsMonotoneInEveryVariable) {
  std::vector<std::string> names = Catalogue();
  for (const char* tiny : {"english-bf16", "multilingual-f32", "odd-f16"})
    names.push_back(std::string(SOTTO_SOURCE_DIR "/tests/golden/whisper/") + tiny + "/model");
  names.emplace_back(SOTTO_SOURCE_DIR "/models/demo-asr");
  for (const std::string& name : names) {
    const Planned p = PlanModel(FindModel(name, ModelUse::kPlan).value(), Asked({})).value();
    for (const Variable variable : kVariables) {
      const Result<Range> range = RangeOf(p, variable);
      if (!range.ok()) continue;
      const int64_t most = range->endless ? 1000 : range->most;
      uint64_t before = 0;
      for (int64_t value = range->least; value <= most; value = std::max(value + 1, value * 3 / 2)) {
        PlanRequest request = p.request;
        Choice choice = p.layout.choice;
        Set(variable, value, &request);
        if (variable == Variable::kBatch) choice.batch = value;
        const uint64_t total = LayOut(p, request, choice).value().plan.total.n;
        EXPECT_GE(total, before) << name << ", " << NameOf(variable) << " " << value;
        if (range->endless && before != 0) {
          EXPECT_EQ(total, before) << name;
        }
        before = total;
      }
    }
  }
}

TEST_F(Questions, TheBestIsTheMostPreciseThatHoldsTheUsual) {
  const ModelDir dir = FindModel("Qwen/Qwen2.5-7B", ModelUse::kPlan).value();
  const auto best = [&](uint64_t budget) {
    const Solution s = Solve(dir, Asked(Bytes{budget}), Variable::kContext, false).value();
    return NameOf(s.answers[s.best].choice.weights);
  };
  const uint64_t full = PlanModel(dir, Asked({})).value().layout.plan.total.n;  // bf16, the usual 4096 positions
  EXPECT_EQ(best(full), "bf16");
  EXPECT_EQ(best(full - 1), "int8");  // bf16 goes to 4095
  const Solution every = Solve(dir, Asked(Bytes{full - 1}), Variable::kContext, true).value();
  EXPECT_EQ(NameOf(every.answers[every.best].choice.weights), "int8");
  EXPECT_GT(every.answers.size(), 10U);
  EXPECT_EQ(every.usual, 4096);
}

TEST_F(Questions, SolveInJsonAndInWords) {
  const std::string budget = "12884901888";
  const Json j = PlanDocument({"openai/whisper-base", "--solve", "batch", "--memory", "629145600"});
  const Json& s = j["solve"];
  EXPECT_EQ(s["variable"], "batch");
  EXPECT_EQ(s["unit"], "sequences");
  EXPECT_EQ(s["limit"], "memory");
  EXPECT_EQ(j["workload"]["batch"], s["value"]);
  EXPECT_EQ(j["memory"]["total_bytes"], s["total_bytes"]);
  EXPECT_GT(s["next_bytes"].get<uint64_t>(), 629145600U);
  EXPECT_EQ(s["choices"].size(), 4U);
  const Ran words = Plan({"openai/whisper-base", "--solve", "batch", "--memory", "629145600"});
  EXPECT_EQ(words.code, 0);
  for (const std::string& part : {s["value"].dump() + " sequences", s["total_bytes"].dump(), s["next_bytes"].dump()})
    EXPECT_NE(words.out.find(part), std::string::npos) << part << "\n" << words.out;

  const Json any = PlanDocument({"openai/whisper-base", "--solve", "audio", "--memory", budget})["solve"];
  EXPECT_TRUE(any["value"].is_null());
  EXPECT_TRUE(any["next_bytes"].is_null());
  EXPECT_EQ(any["limit"], "none");
  EXPECT_NE(Plan({"openai/whisper-base", "--solve", "audio"}).out.find("any length"), std::string::npos);

  const Json hears = PlanDocument({"Qwen/Qwen2-Audio-7B", "--solve", "audio", "--memory", budget})["solve"];
  EXPECT_EQ(hears["value"], 30);  // its front end cuts audio there
  EXPECT_EQ(hears["limit"], "model");
}

TEST_F(Questions, WhatNeverFitsIsRefused) {
  const std::vector<std::string> ask = {"Qwen/Qwen2-Audio-7B", "--solve", "context"};
  const auto with = [&](const std::string& memory) {
    std::vector<std::string> args = ask;
    args.insert(args.end(), {"--memory", memory});
    return args;
  };
  const Json refused = PlanDocument(with("6GiB"), 5);
  EXPECT_EQ(refused["fits"], false);
  EXPECT_EQ(refused["error"]["code"], "over_budget");
  EXPECT_TRUE(refused["solve"]["value"].is_null());
  const auto smallest = refused["error"]["smallest_budget_bytes"].get<uint64_t>();
  EXPECT_EQ(PlanDocument(with(std::to_string(smallest)))["solve"]["total_bytes"], smallest);
  PlanDocument(with(std::to_string(smallest - 1)), 5);
  const Ran words = Plan(with("6GiB"));
  EXPECT_EQ(words.code, 5);
  EXPECT_NE(words.err.find("--memory " + std::to_string(smallest)), std::string::npos) << words.err;
}

TEST_F(Questions, EachPrecisionIsAPlan) {
  for (const char* name : {"openai/whisper-small", "Qwen/Qwen2-Audio-7B", "google/gemma-3n-E2B-it"}) {
    const Json j = PlanDocument({name, "--precisions", "--memory", "6GiB", "--context", "400"},
                                name == std::string("Qwen/Qwen2-Audio-7B") ? 2 : 0);
    if (j.contains("error")) continue;  // 30 s of audio are more than 400 positions
    ASSERT_GE(j["precisions"].size(), 14U) << name;
    int best = 0;
    for (const Json& row : j["precisions"]) {
      const std::string weights = row["weights"], kv = row["kv"];
      const bool fits = row["fits"];
      const Json plain =
          PlanDocument({name, "--weights", weights, "--kv", kv, "--memory", "6GiB", "--context", "400"}, fits ? 0 : 5);
      EXPECT_EQ(row["total_bytes"], plain["memory"]["total_bytes"]) << name << " " << weights;
      EXPECT_EQ(row["weights_bytes"], plain["memory"]["weights_bytes"]) << name << " " << weights;
      if (row["best"]) {
        ++best;
        EXPECT_EQ(j["workload"]["weights"], weights);
        EXPECT_EQ(j["memory"]["total_bytes"], row["total_bytes"]);
      }
      if (!fits) {
        EXPECT_EQ(row["missing_bytes"].get<uint64_t>() + (uint64_t{6} << 30), row["total_bytes"].get<uint64_t>());
      }
    }
    EXPECT_EQ(best, 1) << name;
  }
  EXPECT_EQ(Plan({"deepseek-ai/DeepSeek-V3", "--precisions", "--memory", "6GiB"}).code, 5);
  EXPECT_EQ(Plan({"deepseek-ai/DeepSeek-V3", "--precisions"}).code, 0);  // no budget: it is only said
}

TEST_F(Questions, ModelsStandSideBySideAndErrorsBelow) {
  const std::vector<std::string> models = {"openai/whisper-tiny",
                                           "Qwen/Qwen2.5-0.5B",
                                           "no/such-model",
                                           "deepseek-ai/DeepSeek-V3",
                                           "fixie-ai/ultravox-v0_5-llama-3_2-1b",
                                           "google/gemma-2-2b",
                                           "Qwen/Qwen3-Coder-480B-A35B-Instruct"};
  std::vector<std::string> args = models;
  args.insert(args.end(), {"--memory", "6GiB"});
  const Ran ran = Plan(args);
  EXPECT_EQ(ran.code, 5);
  std::string letters;  // names may go over several lines, each in its column
  for (const char c : ran.out)
    if (c != ' ') letters += c;
  for (const std::string& name : models) {
    if (name == "no/such-model") continue;
    const Ran alone = Plan({name, "--memory", "6GiB", "--json"});  // some do not fit
    const Json j = ParseJson(alone.out, "plan", Code::kFailed).value();
    EXPECT_NE(ran.out.find(j["memory"]["total_bytes"].dump()), std::string::npos) << name;
    EXPECT_NE(letters.find(name.substr(0, name.find('/') + 1)), std::string::npos) << name;
  }
  EXPECT_NE(ran.err.find("no/such-model"), std::string::npos);
  EXPECT_NE(ran.err.find("deepseek-ai/DeepSeek-V3 does not fit"), std::string::npos);
  std::istringstream lines(ran.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;

  args = {"openai/whisper-tiny", "no/such-model", "--json"};
  const Ran json = Plan(args);
  EXPECT_EQ(json.code, 4);
  const Json all = ParseJson(json.out, "plan", Code::kFailed).value();
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["schema"], "sotto.plan/1");
  EXPECT_EQ(all[1]["error"]["code"], "bad_model");
}

TEST_F(Questions, TheTableWrapsIntoBlocks) {
  std::vector<Planned> plans;
  for (const char* name : {"openai/whisper-tiny", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2-Audio-7B", "google/gemma-3-4b-it"})
    plans.push_back(PlanModel(FindModel(name, ModelUse::kPlan).value(), Asked({})).value());
  const Comparison c = Compare({&plans[0], &plans[1], &plans[2], &plans[3]});
  for (const auto& [label, cells] : c.rows) ASSERT_EQ(cells.size(), 4U) << label;
  for (const int width : {80, 120}) {
    std::istringstream lines(cli::CompareText(c, width));
    int blocks = 0;
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(line.size(), static_cast<size_t>(width)) << line;
      blocks += line.starts_with("kind");
    }
    EXPECT_EQ(blocks, width == 80 ? 2 : 1);
  }
  // Parts that only one of them has are rows of all.
  const auto row = [&](std::string_view label) {
    const auto at = std::find_if(c.rows.begin(), c.rows.end(), [&](const auto& r) { return r.first == label; });
    return at == c.rows.end() ? std::vector<std::string>{} : at->second;
  };
  EXPECT_EQ(row("  vision")[0], "-");
  EXPECT_NE(row("  vision")[3], "-");
  EXPECT_EQ(row("KV bytes a token")[2], "524,288");
}

TEST_F(Questions, CsvLinesAreThePlansThatTheyName) {
  const TempDir dir;
  fs::create_directory(dir / "a, \"b\"");
  fs::copy(SOTTO_SOURCE_DIR "/tests/golden/whisper/english-bf16/model/config.json", dir / "a, \"b\"");
  const std::string hostile = dir / "a, \"b\"";
  const Ran ran = Plan({"Qwen/Qwen2-Audio-7B", hostile, "--memory", "18GiB", "--csv", "-"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  std::vector<std::vector<std::string>> rows(1, std::vector<std::string>(1));
  bool quoted = false;
  for (size_t i = 0; i < ran.out.size(); ++i) {  // RFC 4180
    const char c = ran.out[i];
    if (quoted && c == '"' && ran.out[i + 1] == '"')
      rows.back().back() += ran.out[++i];
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && c == ',')
      rows.back().emplace_back();
    else if (!quoted && c == '\r') {
      ASSERT_EQ(ran.out[++i], '\n');
      rows.emplace_back(1);
    } else
      rows.back().back() += c;
  }
  rows.pop_back();
  ASSERT_GT(rows.size(), 40U);
  std::map<std::string, int> seen;
  for (size_t i = 1; i < rows.size(); ++i) {
    ASSERT_EQ(rows[i].size(), rows[0].size()) << i;
    std::map<std::string, std::string> row;
    for (size_t k = 0; k < rows[i].size(); ++k) row[rows[0][k]] = rows[i][k];
    if (++seen[row["model"]] % 7 != 1) continue;  // each is a process
    const bool fits = row["fits"] == "true";
    const Json j =
        PlanDocument({row["model"].find('/') == std::string::npos ? hostile : row["model"], "--weights", row["weights"],
                      "--kv", row["kv"], "--context", row["context"], "--batch", row["batch"], "--memory", "18GiB"},
                     fits ? 0 : 5);
    for (const auto& [part, bytes] : j["memory"].items())
      EXPECT_EQ(row[part], bytes.dump()) << row["model"] << " " << part << " " << row["context"];
    EXPECT_EQ(row["budget_bytes"], j["budget"]["bytes"].dump());
  }
  EXPECT_EQ(seen.size(), 2U);
  EXPECT_TRUE(seen.contains("a, \"b\""));
}

// Every element that is opened is closed, in order.
bool WellFormed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = xml.find('<'); at != std::string::npos; at = xml.find('<', at + 1)) {
    const size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1), name = tag.substr(0, tag.find(' '));
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0 || tag.find('<') != std::string::npos) return false;
    if (name.starts_with('/')) {
      if (open.empty() || open.back() != name.substr(1)) return false;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
  }
  return open.empty();
}

TEST_F(Questions, PlotsAreWholeAndSayTheirNumbers) {
  const TempDir dir;
  const Ran one = Plan({"google/gemma-3-4b-it", "--memory", "12GiB", "--plot", dir / "one.svg"});
  EXPECT_EQ(one.code, 0) << one.err;
  const std::string svg = ReadAll(dir / "one.svg");
  EXPECT_TRUE(WellFormed(svg));
  for (const char* batch : {"1", "2", "4", "8"}) {
    const Json s = PlanDocument({"google/gemma-3-4b-it", "--memory", "12GiB", "--solve", "context", "--weights", "bf16",
                                 "--kv", "fp16", "--batch", batch})["solve"];
    EXPECT_NE(svg.find(Grouped(s["value"].get<uint64_t>())), std::string::npos) << batch;
  }
  for (const char* text : {"google/gemma-3-4b-it", "GiB", "budget 12.00 GiB", "batch 8", "context, positions"})
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  EXPECT_FALSE(WellFormed(svg.substr(0, svg.size() / 2)));  // the check can fail

  const Ran two = Plan({"openai/whisper-tiny", "Qwen/Qwen2-Audio-7B", "--plot", dir / "two.png"});
  EXPECT_EQ(two.code, 0) << two.err;
  const std::string png = ReadAll(dir / "two.png");
  EXPECT_TRUE(png.starts_with("\x89PNG\r\n\x1a\n"));
  EXPECT_EQ(png.substr(png.size() - 8, 4), "IEND");
  EXPECT_FALSE(fs::exists(dir / "two.png.partial"));
  const Ran least = Plan({"Qwen/Qwen2-Audio-7B", "--context", "751", "--plot", dir / "least.svg"});  // one point
  EXPECT_EQ(least.code, 0) << least.err;
  EXPECT_TRUE(WellFormed(ReadAll(dir / "least.svg")));
}

TEST_F(Questions, ThePageStandsAloneAndHoldsThePlan) {
  const TempDir dir;
  const Ran ran = Plan({"Qwen/Qwen2-Audio-7B", "--memory", "24GiB", "--html", dir / "page.html"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string page = ReadAll(dir / "page.html");
  for (const char* outside : {"src=", "href=", "url(", "@import", "fetch(", "https://"})
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  for (size_t at = page.find("http://"); at != std::string::npos; at = page.find("http://", at + 1))
    EXPECT_EQ(page.substr(at - 7, 7), "xmlns=\"") << "only SVG's name";
  const Json j = PlanDocument({"Qwen/Qwen2-Audio-7B", "--memory", "24GiB"});
  for (const char* part : {"weights_bytes", "kv_cache_bytes", "activation_bytes", "table_bytes", "total_bytes"})
    EXPECT_NE(page.find(">" + Grouped(j["memory"][part].get<uint64_t>()) + "<"), std::string::npos) << part;

  // The grid of the script: every plan is the planner's.
  const std::string open = "<script type=\"application/json\">";
  const size_t begin = page.find(open) + open.size();
  const Json grid = ParseJson(page.substr(begin, page.find("</script>", begin) - begin), "grid", Code::kFailed).value();
  ASSERT_EQ(grid["points"].size(), grid["contexts"].size() * grid["batches"].size());
  for (size_t b = 0; b < grid["batches"].size(); b += 2)
    for (size_t i = 0; i < grid["contexts"].size(); i += 3) {
      const Json plain = PlanDocument({"Qwen/Qwen2-Audio-7B", "--weights", "bf16", "--kv", "fp16", "--context",
                                       grid["contexts"][i].dump(), "--batch", grid["batches"][b].dump()});
      const Json& point = grid["points"][b * grid["contexts"].size() + i];
      const char* parts[] = {"weights_bytes", "kv_cache_bytes", "activation_bytes", "audio_bytes",
                             "table_bytes",   "runtime_bytes",  "total_bytes"};
      for (size_t k = 0; k < std::size(parts); ++k) EXPECT_EQ(point[k], plain["memory"][parts[k]]) << parts[k];
    }
}

TEST_F(Questions, AHostileNameIsText) {
  const TempDir dir;
  const std::string name = "<script>alert(1)<&\"'", path = dir / name;
  fs::create_directory(path);
  fs::copy(SOTTO_SOURCE_DIR "/tests/golden/whisper/english-bf16/model/config.json", path);
  const Ran ran = Plan({path, "openai/whisper-tiny", "--html", dir / "page.html", "--plot", dir / "plot.svg"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  const std::string page = ReadAll(dir / "page.html");
  EXPECT_EQ(page.find(name), std::string::npos);
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;&amp;&quot;&#39;"), std::string::npos);
  int scripts = 0;
  for (size_t at = page.find("<script"); at != std::string::npos; at = page.find("<script", at + 1)) ++scripts;
  EXPECT_EQ(scripts, 3);  // two grids, one program
  EXPECT_TRUE(WellFormed(ReadAll(dir / "plot.svg")));
}

TEST_F(Questions, WhatHasNoEffectIsAUsageError) {
  const std::vector<std::vector<std::string>> cases = {
      {"openai/whisper-tiny", "openai/whisper-base", "--solve", "context"},
      {"openai/whisper-tiny", "openai/whisper-base", "--precisions"},
      {"openai/whisper-tiny", "openai/whisper-base", "--timeline", "/tmp/a.png"},
      {"openai/whisper-tiny", "--solve", "weights"},
      {"openai/whisper-tiny", "--solve", "context", "--context", "100"},
      {"openai/whisper-tiny", "--solve", "batch", "--batch", "2"},
      {"openai/whisper-tiny", "--solve", "beam", "--beam", "2"},
      {"Qwen/Qwen2-Audio-7B", "--solve", "audio", "--audio-seconds", "3"},
      {"Qwen/Qwen2.5-0.5B", "--solve", "audio"},
      {"openai/whisper-tiny", "--precisions", "--weights", "int8"},
      {"openai/whisper-tiny", "--csv", "-", "--json"},
      {"openai/whisper-tiny", "--plot", "/tmp/a.jpg"},
      {"openai/whisper-tiny", "--plot", "/tmp/svg"},
  };
  for (const auto& args : cases) {
    const Ran ran = Plan(args);
    EXPECT_EQ(ran.code, 2) << testing::PrintToString(args) << ran.out;
    EXPECT_TRUE(ran.err.starts_with("sotto: ") || ran.out.starts_with("{\"error\"")) << ran.err;
  }
  const Ran nowhere = Plan({"openai/whisper-tiny", "--html", "/nonexistent/page.html"});
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_EQ(nowhere.out, "");  // a file that was asked for and not written is not passed over
}

}  // namespace
}  // namespace sotto
