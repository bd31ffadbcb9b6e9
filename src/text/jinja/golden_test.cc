// Against jinja2 as transformers sets it up: tests/golden/make_chat_templates.py says what is compared and how to compare
// other templates.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "text/chat_template.h"

namespace sotto {
namespace {

class ChatTemplateGolden : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("SOTTO_CHAT_TEMPLATES");
    const std::string golden = path != nullptr ? path : SOTTO_SOURCE_DIR "/tests/golden/chat_templates.json";
    golden_ = Json::parse(ReadSmallFile(golden, 64 << 20, Code::kFailed).value());
  }

  // What a template gives, in the form of the goldens.
  static Json Rendered(const std::string& source, const Json& variables) {
    const auto chat = ChatTemplate::Parse(source);
    if (!chat.ok()) {
      EXPECT_EQ(chat.error().code, Code::kBadModel);
      return {{"failed", "parse"}};
    }
    RenderLimits limits;
    limits.now = std::tm{.tm_sec = 5,
                         .tm_min = 4,
                         .tm_hour = 15,
                         .tm_mday = 26,
                         .tm_mon = 6,
                         .tm_year = 124,
                         .tm_wday = 5,
                         .tm_yday = 207};
    const auto text = chat->Render(variables, limits);
    if (text.ok()) return *text;
    EXPECT_EQ(text.error().code, Code::kBadInput);
    if (text.error().message.starts_with("the chat template can't be rendered")) return {{"failed", "render"}};
    return {{"raised", text.error().message}};
  }

  static Json golden_;
};
Json ChatTemplateGolden::golden_;

TEST_F(ChatTemplateGolden, TheLanguage) {
  ASSERT_GE(golden_["language"].size(), 400u);
  for (const Json& line : golden_["language"]) EXPECT_EQ(Rendered(line[0], golden_["variables"]), line[1]) << line[0];
}

TEST_F(ChatTemplateGolden, TemplatesOfTheFamilies) {
  ASSERT_GE(golden_["templates"].size(), 1u);
  for (const Json& chat : golden_["templates"])
    for (size_t i = 0; i < golden_["conversations"].size(); ++i)
      EXPECT_EQ(Rendered(chat["source"], golden_["conversations"][i]), chat["results"][i])
          << chat["name"] << ", conversation " << i << ": " << golden_["conversations"][i];
}

}  // namespace
}  // namespace sotto
