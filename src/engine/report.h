// A plan as a document and as a table.
#pragma once
#include <string>

#include "engine/engine.h"

namespace sotto {

// The document of `sotto plan --json` (schema sotto.plan/1). What does not fit in a budget that was given has its refusal in it.
Json PlanJson(const Planned& planned);
std::string PlanTable(const Planned& planned);

// The object that stands under "error" in a document.
Json ErrorJson(const Error& error);

Json LedgerJson(const Ledger& ledger);
std::string LedgerTable(const Ledger& ledger);

}  // namespace sotto
