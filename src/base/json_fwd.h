// The name Json, for headers: nlohmann's own header costs a second a file that includes it.
#pragma once
#include <nlohmann/json_fwd.hpp>

namespace sotto {
using Json = nlohmann::ordered_json;
}
