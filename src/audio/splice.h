// Splice: a compressed stream without the parts that cost memory and no sound. Cover pictures, seek tables and tags are
// as large as their author likes, and decoders hold them whole; so the decoder sees a short head made here, then the
// audio data. What the head says is checked first: a few bytes of a Vorbis set-up can ask for gigabytes and overflow a
// stack.
//
//   FLAC:  "fLaC" + STREAMINFO                    then the frames
//   Ogg:   identification page + one page with an empty comment (and Vorbis' set-up)   then the audio pages
//   MP3:   nothing                                then the first frame after ID3v2
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "audio/limits.h"
#include "audio/source.h"
#include "base/result.h"

namespace sotto {

enum class Container { kUnknown, kWav, kFlac, kOgg, kMp3, kAiff, kAu, kCaf, kW64 };

struct Sniffed {
  Container container = Container::kUnknown;
  int64_t start = 0;  // byte behind ID3v2 tags
};
// By the first bytes; ID3v2 tags before FLAC and MP3 are skipped over. Once a source: a pipe can't come back from a
// large tag.
Sniffed Sniff(ByteSource* source);

struct Splice {
  std::vector<std::byte> head;  // < 64 KiB
  int64_t data_start = 0;       // position in the source that follows the head
  std::string codec;            // "flac", "vorbis", "opus", "mp3"
  int64_t frames = -1;          // samples a channel where known, at `rate`
  int channels = 0, rate = 0;   // 0: the decoder says
};

// kBadInput for heads that are cut short, contradict themselves or ask for more memory than any real encoder does.
Result<Splice> SpliceFlac(ByteSource* source, int64_t start, const AudioLimits& limits);
Result<Splice> SpliceOgg(ByteSource* source, const AudioLimits& limits);

// Whether the last page of an Ogg stream that ended at `end` is whole and marked as the last one. Looks at most 64 KiB
// back.
bool OggEndsWell(ByteSource* source, int64_t end);
// The granule position of the last page before `end`, -1 when none was found.
int64_t OggLastGranule(ByteSource* source, int64_t end);

// Vorbis' set-up packet (Vorbis I specification, section 4.2.4): an error when decoding it would take more than about 2
// MiB.
Status CheckVorbisSetup(const std::string& name, const std::byte* packet, int64_t size);

}  // namespace sotto
