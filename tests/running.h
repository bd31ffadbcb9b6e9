// What tests that run models have in common.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/text_session.h"
#include "ops/row.h"

namespace sotto {

inline const std::atomic<bool> kGoOn{false};

// The value, or a failed test that says why there is none.
template <class T>
T Must(Result<T> r) {
  if (!r.ok()) ADD_FAILURE() << r.error().message;
  return std::move(r).value();
}

// 1 GiB and two threads, unless a test says otherwise.
inline PlanRequest SmallRequest(const std::string& weights = "auto", const std::string& kv = "auto") {
  PlanRequest request;
  request.budget = Bytes{kGiB};
  request.weights = weights;
  request.kv = kv;
  request.threads = 2;
  return request;
}

inline std::unique_ptr<Engine> OpenEngine(const std::string& model, const PlanRequest& request) {
  return Must(Engine::Open(Must(PlanModel(Must(FindModel(model, ModelUse::kRun)), request)),
                           [](uint64_t, uint64_t) { return true; }));
}

// The logits of all positions of a prompt, read in pieces of `piece` tokens: ids.size() rows of vocab_size.
inline std::vector<std::vector<float>> LogitRows(Engine& engine, std::span<const int32_t> ids, size_t piece) {
  TextSession session(engine);
  std::vector<std::vector<float>> rows;
  for (size_t at = 0; at < ids.size(); at += piece)
    EXPECT_TRUE(session
                    .Read(ids.subspan(at, std::min(piece, ids.size() - at)), kGoOn,
                          [&](std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); })
                    .ok());
  return rows;
}

// `count` most probable tokens, each read before the next, behind what the session has read.
inline std::vector<int32_t> GreedyIds(TextSession& session, size_t count) {
  std::vector<int32_t> ids;
  while (ids.size() < count) {
    const std::span<const float> logits = session.logits();
    ids.push_back(static_cast<int32_t>(ArgMax(logits.data(), static_cast<int64_t>(logits.size()))));
    EXPECT_TRUE(session.Read({&ids.back(), 1}, kGoOn).ok());
  }
  return ids;
}

// The largest difference to the reference's rows at expected["positions"], as a share of its largest logit.
inline float LargestError(const Json& expected, const std::vector<std::vector<float>>& rows) {
  float worst = 0;
  for (size_t i = 0; i < expected["positions"].size(); ++i) {
    const auto want = expected["logits"][i].get<std::vector<float>>();
    const auto& got = rows.at(expected["positions"][i].get<size_t>());
    EXPECT_EQ(got.size(), want.size());
    for (size_t j = 0; j < want.size(); ++j) worst = std::max(worst, std::fabs(got[j] - want[j]));
  }
  return worst / expected["largest"].get<float>();
}

}  // namespace sotto
