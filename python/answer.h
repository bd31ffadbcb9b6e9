// What functions of _sotto answer with: one JSON document, {"error": …} when they fail.
#pragma once
#include <string>

#include "base/json.h"
#include "engine/report.h"

namespace sotto {

inline std::string Text(const Json& document) { return document.dump(-1, ' ', false, Json::error_handler_t::replace); }
inline std::string Text(const Error& error) { return Text(Json{{"error", ErrorJson(error)}}); }

}  // namespace sotto
