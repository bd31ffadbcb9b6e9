#include "text/chat_template.h"

#include <fmt/format.h>

#include "base/json.h"
#include "text/jinja/parser.h"
#include "text/jinja/renderer.h"
#include "text/utf8.h"

namespace sotto {

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes)
    return BadModel(fmt::format("the chat template has {} bytes; at most {} are read", source.size(), kMaxSourceBytes));
  if (!IsUtf8(source)) return BadModel("the chat template is not UTF-8; fetch its file again");
  std::vector<jinja::Token> tokens = TRY(jinja::Tokenize(source));
  return ChatTemplate(TRY(jinja::Parser(std::move(tokens)).Run()));
}

Result<std::string> ChatTemplate::Render(const Json& variables, const RenderLimits& limits) const {
  return jinja::Renderer(*program_, limits).Render(variables);
}

}  // namespace sotto
