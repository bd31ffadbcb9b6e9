// What `sotto plan` prints for the questions beside "how much": how far, in which precision, which model, over which grid.
#pragma once
#include <string>
#include <vector>

#include "engine/solve.h"

namespace sotto::cli {

// `planned`: the solution's plan.
std::string SolveText(const Solution& solution, const Planned& planned);
Json SolveJson(const Solution& solution);

std::string PrecisionText(const Precisions& precisions, const Planned& planned);
Json PrecisionJson(const Precisions& precisions, const Planned& planned);

// Columns that do not go into `width` characters follow in blocks below.
std::string CompareText(const Comparison& comparison, int width);
int TerminalWidth();  // of standard output, from 80 to 120; 100 where it is no terminal

// RFC 4180: a header line, then a line for each point of a grid.
std::string CsvHeader();
std::string CsvLines(const Planned& planned, const Grid& grid);

}  // namespace sotto::cli
