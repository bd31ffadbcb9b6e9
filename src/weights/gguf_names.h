// How GGUF files name the tensors of a family: one table a family, slot <-> tensor, as data. Planning matches headers by it, and a
// loader finds each slot's rows by it. What the settings of a file say is gguf_config.h.
//
// Sources: github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py and tensor_mapping.py for names, conversion/ for what is done
// to rows on the way. tests/golden/make_gguf.py makes files by gguf-py's own map, which the tests plan.
#pragma once
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "weights/gguf.h"
#include "weights/stored.h"

namespace sotto {

// Plain names (stored.h) of modules: ".weight" and ".bias" stand behind both. '#' is a number, the same on both sides. Several rows
// with one slot: it is made of all those tensors. '*' in a slot: the tensor is a stack of all slots of that form.
struct GgufName {
  std::string_view slot, tensor;
};

struct GgufFamily {
  std::string_view id;  // general.architecture; of an mmproj file its projector's type
  std::array<std::span<const GgufName>, 8> names;
  bool paired_heads =
      false;  // rows of each head of q and k: pairs (0, n/2), (1, n/2 + 1) … side by side, put back when loading
  bool norms_plus_one = false;  // norms hold 1 + the checkpoint's weight
};

// Language models by architecture, audio halves by projector type; nullptr when the id is not mapped.
const GgufFamily* FindGgufFamily(std::string_view id, bool audio);
std::string KnownGgufFamilies(bool audio);  // for errors: "llama, qwen2, …"

// Where a tensor belongs. `slot`: a plain name, with '*' for a stack. `whole`: it is all of the slot.
struct GgufPlace {
  std::string slot;
  bool whole = true;
};
// With and without the suffix ".weight", in this order of preference: an expert's matrices have none. Nothing: not in the table.
std::optional<std::array<GgufPlace, 2>> PlaceOf(const GgufFamily& family, std::string_view tensor);

// The tensor that a slot (a plain name) has in a family's files, or the first of several; "" when the table has none.
std::string TensorOf(const GgufFamily& family, std::string_view slot);

// Rotary tables, audio constants, parts that nothing reads: a file may hold them.
bool IsSpareGguf(std::string_view tensor);

}  // namespace sotto
