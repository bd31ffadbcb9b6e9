// A plan as a document and as a table.
#pragma once
#include <string>
#include <vector>

#include "engine/engine.h"

namespace sotto {

std::string Grouped(uint64_t n);  // "12,884,901,888"

// What is live in the peak phase, in bytes: the categories add up to the total.
struct Sums {
  uint64_t weights, kv, activations, audio, tables, runtime, total;
};
Sums PeakSums(const Layout& layout);

// Of one sequence: an audio-language model's whole audio, an encoder-decoder's window; 0 for a text decoder.
double AudioSeconds(const Planned& planned);

// The rows of the table; a part of the row above it is indented by two spaces.
struct PlanRow {
  std::string name;
  uint64_t bytes;
  std::string note;
};
std::vector<PlanRow> PlanRows(const Planned& planned);
std::string WorkloadText(const Planned& planned);  // "weights fp16 (as stored), cache fp16, batch 1 …"

// Models side by side: a column for each plan, a row for each figure that one of them has.
struct Comparison {
  std::vector<std::string> models;
  std::vector<std::pair<std::string, std::vector<std::string>>> rows;  // label; a cell for each model
};
Comparison Compare(const std::vector<const Planned*>& plans);

// The document of `sotto plan --json` (schema sotto.plan/1). What does not fit in a budget that was given has its refusal in it.
Json PlanJson(const Planned& planned);
std::string PlanTable(const Planned& planned);

// The object that stands under "error" in a document.
Json ErrorJson(const Error& error);

Json LedgerJson(const Ledger& ledger);
std::string LedgerTable(const Ledger& ledger);

}  // namespace sotto
