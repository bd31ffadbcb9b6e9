// A transcript, written segment by segment as it comes: a ten-hour file holds none of it in memory. Files appear under their
// name only when complete; until then they are NAME.partial beside a small journal from which --resume goes on.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/result.h"

namespace sotto {

enum class TextFormat { kTxt, kSrt, kVtt, kTsv, kJson };

// "txt", "srt,vtt" or "all". kUsage.
Result<std::vector<TextFormat>> ParseFormats(std::string_view list);

struct Segment {
  double start = 0, end = 0;  // seconds from the file's start
  std::string text;
};

// "01:02:03,456": hours only when `always_hours` or needed.
std::string Clock(double seconds, char decimal, bool always_hours);

// Where a file's transcription stands: enough to go on after an interruption.
struct Checkpoint {
  double seconds = 0;  // audio before this is done
  std::string language;
};

class Transcript {
 public:
  Transcript() = default;
  Transcript(Transcript&&) = default;
  Transcript& operator=(Transcript&&) = default;

  // Files `directory`/`stem`.txt and so on. With `resume`, goes on from the journal if there is one that belongs to the same
  // `source` (a string that names audio, model and settings).
  static Result<Transcript> InDirectory(const std::string& directory, const std::string& stem,
                                        const std::vector<TextFormat>& formats, const std::string& source, bool resume);
  // One format on standard output.
  static Transcript OnStdout(TextFormat format);
  // Its words alone, appended to `text`, which outlives it.
  static Transcript Into(std::string* text);

  const Checkpoint& checkpoint() const { return checkpoint_; }  // what was resumed from

  Status Add(const Segment& segment);
  // Everything added so far is on disk and will survive an interruption.
  Status Commit(const Checkpoint& checkpoint);
  // Completes and renames. `extra` members are appended to JSON documents.
  Status Finish(const Json& extra);
  // After a failure: a document already begun on standard output is completed with `extra`, and true returned; files stay
  // as they are, to be resumed or overwritten.
  bool Abandon(const Json& extra);

 private:
  // An output file; closes itself. JSON's whole text is gathered in a second one and joined at the end.
  struct Sink {
    Sink() = default;
    Sink(Sink&& other) noexcept;
    Sink& operator=(Sink&&) = delete;
    ~Sink();
    Status Write(std::string_view bytes);
    int fd = -1;
    bool is_stdout = false;
    std::string path;  // of the finished file; empty: stdout, or a file without a name
    uint64_t bytes = 0;
  };
  struct Output {
    TextFormat format;
    Sink main, text;
    bool begun = false;  // its header is written
  };

  Status OpenOutput(TextFormat format, const std::string& path, std::optional<std::pair<uint64_t, uint64_t>> keep);
  static Status Header(Output* output);

  std::vector<Output> outputs_;
  std::string* words_ = nullptr;
  std::string journal_, source_;
  Checkpoint checkpoint_;
  uint64_t segments_ = 0;
};

}  // namespace sotto
