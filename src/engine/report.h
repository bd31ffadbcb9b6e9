// A plan as a document and as a table.
#pragma once
#include <string>

#include "engine/engine.h"

namespace sotto {

// The document of `sotto plan --json` (schema sotto.plan/1).
Json PlanJson(const Planned& planned);
std::string PlanTable(const Planned& planned);

Json LedgerJson(const Ledger& ledger);
std::string LedgerTable(const Ledger& ledger);

}  // namespace sotto
