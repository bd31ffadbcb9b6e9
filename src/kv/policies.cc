// The caches that there are, by name.
#include <fmt/format.h>

#include <map>
#include <mutex>

#include "kv/packed.h"

namespace sotto {

Result<const KvPolicy*> ParseKvPolicy(std::string_view name) {
  for (const DType dense : {DType::kF32, DType::kF16, DType::kBF16})
    if (name == NameOf(dense)) return DenseKvPolicy(dense);
  if (!IsPackedKv(name))
    return Usage(
        fmt::format("--kv {} is not a cache that sotto has; choose fp32, fp16, bf16, q8, q4, q3, q2, smart, "
                    "smart:budget=0.25 or auto",
                    name.substr(0, 40)));
  const PackedKvOptions options = TRY(ParsePackedKv(name));
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<KvPolicy>, std::less<>> packed;
  const std::lock_guard lock(mutex);
  auto it = packed.find(name);
  if (it == packed.end()) it = packed.emplace(name, MakePackedKv(std::string(name), options)).first;
  return it->second.get();
}

}  // namespace sotto
