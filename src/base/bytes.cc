#include "base/bytes.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace sotto {
namespace {
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

struct Unit {
  std::string_view name;
  double factor;
};
constexpr Unit kUnits[] = {{"", 1},
                           {"b", 1},
                           {"k", 1024.0},
                           {"kib", 1024.0},
                           {"kb", 1e3},
                           {"m", 1048576.0},
                           {"mib", 1048576.0},
                           {"mb", 1e6},
                           {"g", 1073741824.0},
                           {"gib", 1073741824.0},
                           {"gb", 1e9},
                           {"t", 1099511627776.0},
                           {"tib", 1099511627776.0},
                           {"tb", 1e12}};
}  // namespace

uint64_t SatAdd(uint64_t a, uint64_t b) { return a > kMax - b ? kMax : a + b; }

uint64_t SatMul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kMax : product;
}

uint64_t RoundUp(uint64_t n, uint64_t unit) {
  CHECK(unit != 0 && (unit & (unit - 1)) == 0);
  return n > kMax - (unit - 1) ? kMax & ~(unit - 1) : (n + unit - 1) & ~(unit - 1);
}

Result<Bytes> ParseSize(std::string_view text, Bytes available) {
  const Error bad = Usage(
      fmt::format("'{}' is not a memory size; write a number of bytes, or a size such as 512MiB, 2GiB, 6GB or 80%",
                  text.substr(0, 40)));
  size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return bad;
  text.remove_prefix(begin);
  double number = 0;
  const auto [end, errc] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (errc != std::errc() || !std::isfinite(number)) return bad;
  std::string unit;
  bool digits_only = true;
  for (const char* p = text.data(); p != end; ++p) digits_only &= std::isdigit(static_cast<unsigned char>(*p)) != 0;
  for (const char* p = end; p != text.data() + text.size(); ++p)
    if (*p != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*p)));
  if (unit.empty() && digits_only) {  // exact: a double holds only 53 bits
    uint64_t n = 0;
    const auto r = std::from_chars(text.data(), end, n);
    if (r.ec != std::errc() || n == 0) return bad;
    return Bytes{n};
  }
  double value = -1;
  if (unit == "%") {
    if (number > 100) return bad;
    value = number / 100.0 * static_cast<double>(available.n);
  }
  for (const Unit& u : kUnits)
    if (unit == u.name) value = number * u.factor;
  if (!(value >= 1) || value > 9e18) return bad;
  return Bytes{static_cast<uint64_t>(std::floor(value))};
}

std::string Human(Bytes bytes) {
  const auto v = static_cast<double>(bytes.n);
  if (bytes.n < kKiB) return fmt::format("{} bytes", bytes.n);
  if (bytes.n < kMiB) return fmt::format("{:.1f} KiB", v / kKiB);
  if (bytes.n < kGiB) return fmt::format("{:.1f} MiB", v / kMiB);
  return fmt::format("{:.2f} GiB", v / kGiB);
}

}  // namespace sotto
