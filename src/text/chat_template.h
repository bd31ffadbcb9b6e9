// Chat templates: the Jinja program that a model ships and that turns messages into the text of a prompt. An interpreter of
// our own for the part of Jinja that such templates use, equal to Python's jinja2 as transformers sets it up (sandboxed,
// trim_blocks, lstrip_blocks, break and continue, {% generation %}, raise_exception, strftime_now, transformers' tojson).
//
// Not here: template inheritance, include, import and autoescape; the filters pprint, random, urlize and others that no chat
// template uses. Each is an error that names it and its line.
//
//   const ChatTemplate chat = TRY(ChatTemplate::Parse(source));
//   std::string prompt = TRY(chat.Render({{"messages", messages}, {"add_generation_prompt", true}, {"bos_token", "<s>"}}));
#pragma once
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/result.h"

namespace sotto {

namespace jinja {
struct Program;
}

// A template is a program from a stranger: it ends within these bounds, or in an error.
struct RenderLimits {
  uint64_t max_output_bytes = 16 << 20;
  uint64_t max_memory_bytes = 256 << 20;  // all values and captured text that live at one time, by their own count
  uint64_t max_steps = 10'000'000;        // nodes evaluated, items visited, 16 bytes of text read: about two seconds
  std::optional<std::tm> now;             // for strftime_now; the local time when not given
};

class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = 64 << 10;  // the longest published ones have 30 KiB

  // kBadModel for a source that isn't a template, or uses what is not supported where it can't be avoided.
  static Result<ChatTemplate> Parse(std::string_view source);

  // `variables` is an object: messages, tools, documents, add_generation_prompt, bos_token … kBadInput: the template called
  // raise_exception (its message alone), an operation failed as in Python, a bound of `limits` was reached.
  Result<std::string> Render(const Json& variables, const RenderLimits& limits = {}) const;

 private:
  explicit ChatTemplate(std::shared_ptr<const jinja::Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const jinja::Program> program_;
};

}  // namespace sotto
