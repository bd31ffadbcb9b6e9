// The tokenizer in a GGUF file's settings (tokenizer.ggml.*): a source for Tokenizer::Measure and Open, and what a chat needs of
// it. Tokens are read from the file in passes; none is kept here.
//
//   const TokenizerSize size = TRY(Tokenizer::Measure(gguf));                 // a plan item of size.bytes()
//   const Tokenizer tokenizer = TRY(Tokenizer::Open(gguf, size, memory));     // memory: exactly that many bytes
//   const GgufChat chat = TRY(ReadGgufChat(gguf));
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "text/token_source.h"
#include "weights/gguf.h"

namespace sotto {

// tokenizer.ggml.model gpt2 (with the splitting that tokenizer.ggml.pre names), llama and t5. kBadModel.
Result<TokenSettings> ReadGgufTokens(const GgufFiles& gguf, TokenSink& sink);

// The reverse: what tokenizer.ggml.pre says of byte pair encoding with these settings; "" when it has no name for them.
std::string_view GgufSplitting(const TokenSettings& settings);

struct GgufChat {
  struct Token {
    int32_t id;
    std::string text;
  };
  std::string chat_template;  // "": the file has none
  // By the names that templates use: bos_token, eos_token, unk_token, pad_token, sep_token, mask_token; and eot_token and
  // eom_token, which end a turn or a message as eos_token does.
  std::map<std::string, Token, std::less<>> tokens;
};
// kBadModel for an id that is none of the file's tokens, or a text that is not UTF-8.
Result<GgufChat> ReadGgufChat(const GgufFiles& gguf);

}  // namespace sotto
