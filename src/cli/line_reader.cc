#include "cli/line_reader.h"

#include <fmt/format.h>
#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>

#include "cli/options.h"
#include "engine/chat.h"
#include "text/utf8.h"

namespace sotto::cli {

struct LineReader::Editor {
  EditLine* line = nullptr;
  History* history = nullptr;
  bool cleared = false;  // the last line was left by an interrupt, and was not empty

  Editor() {
    std::setlocale(LC_CTYPE, "C.UTF-8");  // libedit counts characters by it
    line = el_init("sotto", stdin, stdout, stderr);
    history = history_init();
    HistEvent event;
    ::history(history, &event, H_SETSIZE, 100);
    ::history(history, &event, H_SETUNIQUE, 1);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, ::history, history);
    el_set(line, EL_SIGNAL, 1);  // a terminal that is resized, stopped, continued
    el_set(line, EL_PROMPT, &Editor::Prompt);
    el_set(line, EL_GETCFN, &Editor::Character);
  }
  ~Editor() {
    history_end(history);
    el_end(line);
  }

  static char* Prompt(EditLine*) {
    static char prompt[] = "> ";
    return prompt;
  }

  // One character from the terminal. Unlike libedit's own, it ends when a signal asks for it.
  static int Character(EditLine* el, wchar_t* out) {
    std::string bytes;
    do {
      char byte = 0;
      const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
      if (got == 1) {
        bytes += byte;
      } else if (got == 0) {
        return 0;
      } else if (errno != EINTR || StopFlag().load()) {
        void* self = nullptr;
        el_get(el, EL_CLIENTDATA, &self);
        const LineInfo* typed = el_line(el);
        static_cast<Editor*>(self)->cleared = typed->lastchar > typed->buffer;
        return -1;
      }
    } while (bytes.empty() || (bytes.size() < 4 && !IsUtf8(bytes)));
    *out = IsUtf8(bytes) ? static_cast<wchar_t>(CharacterAt(bytes, 0).code) : L'\uFFFD';
    return 1;
  }
};

LineReader::LineReader(bool terminal, uint64_t most)
    : editor_(terminal ? std::make_unique<Editor>() : nullptr), most_(most) {}
LineReader::~LineReader() = default;

Result<std::optional<std::string>> LineReader::Next() {
  std::string text;
  if (editor_ != nullptr) {
    for (;;) {
      int bytes = 0;
      editor_->cleared = false;
      el_resize(editor_->line);
      const char* line = el_gets(editor_->line, &bytes);
      if (line != nullptr && bytes > 0) {
        text.assign(line, static_cast<size_t>(bytes));
        break;
      }
      std::puts("");
      if (!editor_->cleared || StopSignal() != SIGINT) return std::optional<std::string>();
      ClearStop();
    }
    if (text.ends_with('\n')) text.pop_back();
    HistEvent event;
    if (!text.empty()) ::history(editor_->history, &event, H_ENTER, text.c_str());
  } else {
    int c = 0;
    while ((c = std::getchar()) != EOF && c != '\n' && text.size() <= most_) text += static_cast<char>(c);
    if (c == EOF && text.empty()) return std::optional<std::string>();
  }
  if (text.size() > most_)
    return BadInput(fmt::format("a message is longer than the {} bytes that are read; give a part of it", most_));
  return std::optional<std::string>(std::move(text));
}

}  // namespace sotto::cli
