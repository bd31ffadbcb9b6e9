#include "engine/transcript.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/json.h"

namespace sotto {
namespace {

constexpr std::pair<std::string_view, TextFormat> kFormats[] = {{"txt", TextFormat::kTxt},
                                                                {"srt", TextFormat::kSrt},
                                                                {"vtt", TextFormat::kVtt},
                                                                {"tsv", TextFormat::kTsv},
                                                                {"json", TextFormat::kJson}};

std::string_view Extension(TextFormat format) {
  for (const auto& [name, f] : kFormats)
    if (f == format) return name;
  return "";
}

std::string_view Trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\n')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\n')) s.remove_suffix(1);
  return s;
}

// A line of a line-based format must stay one line; "-->" would end a cue's text early.
std::string OneLine(std::string_view text) {
  std::string s(Trim(text));
  for (char& c : s)
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  for (size_t i = s.find("-->"); i != std::string::npos; i = s.find("-->")) s.replace(i, 3, "->");
  return s;
}

std::string Quoted(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Line(TextFormat format, const Segment& s, uint64_t index) {
  switch (format) {
    case TextFormat::kTxt: return std::string(Trim(s.text)) + "\n";
    case TextFormat::kSrt:
      return fmt::format("{}\n{} --> {}\n{}\n\n", index + 1, Clock(s.start, ',', true), Clock(s.end, ',', true),
                         OneLine(s.text));
    case TextFormat::kVtt:
      return fmt::format("{} --> {}\n{}\n\n", Clock(s.start, '.', false), Clock(s.end, '.', false), OneLine(s.text));
    case TextFormat::kTsv:
      return fmt::format("{}\t{}\t{}\n", std::llround(s.start * 1000), std::llround(s.end * 1000), OneLine(s.text));
    case TextFormat::kJson:
      return fmt::format("{}\n  {{\"start\": {:.2f}, \"end\": {:.2f}, \"text\": {}}}", index == 0 ? "" : ",", s.start,
                         s.end, Quoted(s.text));
  }
  return "";
}

int UnnamedFile() {
  const char* dir = std::getenv("TMPDIR");
  std::string path = std::string(dir != nullptr && *dir != 0 ? dir : "/tmp") + "/sotto-XXXXXX";
  const int fd = ::mkstemp(path.data());
  if (fd >= 0) ::unlink(path.c_str());
  return fd;
}

}  // namespace

Result<std::vector<TextFormat>> ParseFormats(std::string_view list) {
  std::vector<TextFormat> formats;
  if (list == "all") {
    for (const auto& [name, format] : kFormats) formats.push_back(format);
    return formats;
  }
  while (true) {
    const size_t comma = list.find(',');
    const std::string_view name = list.substr(0, comma);
    const auto* found =
        std::find_if(std::begin(kFormats), std::end(kFormats), [&](const auto& f) { return f.first == name; });
    if (found == std::end(kFormats))
      return Usage(fmt::format("'{}' is not a transcript format; choose from txt, srt, vtt, tsv, json, or all",
                               name.substr(0, 40)));
    if (std::find(formats.begin(), formats.end(), found->second) == formats.end()) formats.push_back(found->second);
    if (comma == std::string_view::npos) return formats;
    list.remove_prefix(comma + 1);
  }
}

std::string Clock(double seconds, char decimal, bool always_hours) {
  const auto ms = static_cast<uint64_t>(std::llround(std::max(seconds, 0.0) * 1000));
  const uint64_t hours = ms / 3600000;
  const std::string rest = fmt::format("{:02}:{:02}{}{:03}", ms / 60000 % 60, ms / 1000 % 60, decimal, ms % 1000);
  return always_hours || hours != 0 ? fmt::format("{:02}:{}", hours, rest) : rest;
}

Transcript::Sink::Sink(Sink&& other) noexcept {
  std::swap(fd, other.fd);
  std::swap(is_stdout, other.is_stdout);
  std::swap(path, other.path);
  std::swap(bytes, other.bytes);
}

Transcript::Sink::~Sink() {
  if (fd >= 0 && !is_stdout) ::close(fd);
}

Status Transcript::Sink::Write(std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      return Failed(fmt::format("cannot write {}: {}; what is complete stays beside it as .partial",
                                is_stdout      ? "to standard output"
                                : path.empty() ? "a temporary file (TMPDIR)"
                                               : path,
                                std::strerror(errno)));
    data.remove_prefix(static_cast<size_t>(put));
    bytes += static_cast<uint64_t>(put);
  }
  return {};
}

Status Transcript::Header(Output* o) {
  if (std::exchange(o->begun, true)) return {};
  if (o->format == TextFormat::kVtt) return o->main.Write("WEBVTT\n\n");
  if (o->format == TextFormat::kTsv) return o->main.Write("start\tend\ttext\n");
  if (o->format == TextFormat::kJson) return o->main.Write("{\"segments\": [");
  return {};
}

Status Transcript::OpenOutput(TextFormat format, const std::string& path,
                              std::optional<std::pair<uint64_t, uint64_t>> keep) {
  Output o{format, {}, {}, keep.has_value()};
  const auto open = [&](Sink* sink, const std::string& at, uint64_t length) -> Status {
    sink->path = at;
    const std::string partial = at + ".partial";
    sink->fd = ::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (keep ? 0 : O_TRUNC), 0644);
    if (sink->fd < 0)
      return Failed(fmt::format("cannot write {}: {}; check that its folder exists and is writable", partial,
                                std::strerror(errno)));
    if (keep) {
      struct stat st {};
      if (::fstat(sink->fd, &st) != 0 || static_cast<uint64_t>(st.st_size) < length ||
          ::ftruncate(sink->fd, static_cast<off_t>(length)) != 0 || ::lseek(sink->fd, 0, SEEK_END) < 0)
        return Failed(fmt::format("{} is shorter than its journal says; start again without --resume", partial));
      sink->bytes = length;
    }
    return {};
  };
  TRY(open(&o.main, path, keep ? keep->first : 0));
  if (format == TextFormat::kJson) TRY(open(&o.text, path + ".text", keep ? keep->second : 0));
  if (!keep) TRY(Header(&o));
  outputs_.push_back(std::move(o));
  return {};
}

Transcript Transcript::OnStdout(TextFormat format) {
  Transcript t;
  Output o{format, {}, {}, false};
  o.main.fd = STDOUT_FILENO;
  o.main.is_stdout = true;
  if (format == TextFormat::kJson) o.text.fd = UnnamedFile();
  t.outputs_.push_back(std::move(o));
  return t;
}

Transcript Transcript::Into(std::string* text) {
  Transcript t;
  t.words_ = text;
  return t;
}

Result<Transcript> Transcript::InDirectory(const std::string& directory, const std::string& stem,
                                           const std::vector<TextFormat>& formats, const std::string& source,
                                           bool resume) {
  Transcript t;
  t.source_ = source;
  t.journal_ = directory + "/" + stem + ".sotto-resume";
  Json journal;
  if (resume && FileExists(t.journal_)) {
    journal = TRY(ReadJson(t.journal_, Code::kFailed));
    const bool valid = journal.is_object() && journal.contains("source") && journal["source"] == source &&
                       journal.contains("bytes") && journal["bytes"].is_object() && journal.contains("segments") &&
                       journal["segments"].is_number_unsigned() && journal.contains("seconds") &&
                       journal["seconds"].is_number() && journal.contains("language") &&
                       journal["language"].is_string();
    if (!valid)
      return Usage(
          fmt::format("{} is of another audio, model or settings; remove it, or run without --resume", t.journal_));
    t.segments_ = journal["segments"].get<uint64_t>();
    t.checkpoint_ = {journal["seconds"].get<double>(), journal["language"].get<std::string>()};
  }
  for (const TextFormat format : formats) {
    const std::string extension(Extension(format));
    std::optional<std::pair<uint64_t, uint64_t>> keep;
    if (journal.is_object()) {
      const Json& bytes = journal["bytes"];
      if (!bytes.contains(extension) || !bytes[extension].is_array() || bytes[extension].size() != 2 ||
          !bytes[extension][0].is_number_unsigned() || !bytes[extension][1].is_number_unsigned())
        return Usage(
            fmt::format("{} was begun with other formats; use the same --format, or run without --resume", t.journal_));
      keep = {bytes[extension][0].get<uint64_t>(), bytes[extension][1].get<uint64_t>()};
    }
    TRY(t.OpenOutput(format, directory + "/" + stem + "." + extension, keep));
  }
  return t;
}

Status Transcript::Add(const Segment& segment) {
  if (Trim(segment.text).empty()) return {};
  if (words_ != nullptr) *words_ += " " + std::string(Trim(segment.text));
  for (Output& o : outputs_) {
    TRY(Header(&o));  // on standard output nothing is printed before there is something to say
    TRY(o.main.Write(Line(o.format, segment, segments_)));
    if (o.text.fd >= 0) {
      const std::string quoted = Quoted(segment.text);
      TRY(o.text.Write(std::string_view(quoted).substr(1, quoted.size() - 2)));
    }
  }
  ++segments_;
  return {};
}

Status Transcript::Commit(const Checkpoint& checkpoint) {
  if (journal_.empty()) return {};
  Json bytes = Json::object();
  for (const Output& o : outputs_) bytes[std::string(Extension(o.format))] = {o.main.bytes, o.text.bytes};
  const Json journal = {{"source", source_},
                        {"seconds", checkpoint.seconds},
                        {"language", checkpoint.language},
                        {"segments", segments_},
                        {"bytes", bytes}};
  AtomicFile file = TRY(AtomicFile::Create(journal_));
  TRY(file.Write(journal.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return file.Commit();
}

Status Transcript::Finish(const Json& extra) {
  for (Output& o : outputs_) {
    TRY(Header(&o));
    if (o.format == TextFormat::kJson) {
      TRY(o.main.Write(segments_ == 0 ? "],\n \"text\": \"" : "\n ],\n \"text\": \""));
      if (o.text.fd >= 0 && ::lseek(o.text.fd, 0, SEEK_SET) == 0) {
        char block[4096];
        for (ssize_t got = 0; (got = ::read(o.text.fd, block, sizeof block)) > 0;)
          TRY(o.main.Write({block, static_cast<size_t>(got)}));
      }
      TRY(o.main.Write("\""));
      for (const auto& [key, value] : extra.items())
        TRY(o.main.Write(
            fmt::format(",\n {}: {}", Quoted(key), value.dump(-1, ' ', false, Json::error_handler_t::replace))));
      TRY(o.main.Write("}\n"));
    }
    if (o.main.is_stdout) continue;
    const std::string partial = o.main.path + ".partial";
    if (::fsync(o.main.fd) != 0 && errno != EINVAL)
      return Failed(fmt::format("cannot finish {}: {}", o.main.path, std::strerror(errno)));
    if (::rename(partial.c_str(), o.main.path.c_str()) != 0)
      return Failed(fmt::format("cannot rename {}: {}", partial, std::strerror(errno)));
    if (!o.text.path.empty()) ::unlink((o.text.path + ".partial").c_str());
  }
  if (!journal_.empty()) ::unlink(journal_.c_str());
  return {};
}

bool Transcript::Abandon(const Json& extra) {
  Output& o = outputs_[0];
  if (!o.main.is_stdout || o.format != TextFormat::kJson || !o.begun) return false;
  return Finish(extra).ok();
}

}  // namespace sotto
