// What Python's operators and protocols do with values. An operation that Python refuses is kBadInput.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "text/jinja/value.h"

namespace sotto::jinja {

const char* TypeName(const Value& value);  // as Python calls it: "str", "NoneType"
bool Truth(const Value& value);
bool Same(const Value& a, const Value& b);  // `is`: the same object
Result<bool> Equal(Budget& budget, const Value& a, const Value& b);
// op: '<', '>', 'l' for <=, 'g' for >=.
Result<bool> Ordered(Budget& budget, char op, const Value& a, const Value& b);
// op: '+', '-', '*', '/', 'F' for //, '%', 'P' for **.
Result<Value> Arithmetic(Budget& budget, char op, const Value& a, const Value& b);
Result<Value> Negative(Budget& budget, const Value& value);
Result<bool> Contains(Budget& budget, const Value& container, const Value& item);

Result<std::shared_ptr<Iterator>> Iterate(Budget& budget, const Value& value);
Result<std::vector<Value>> ToList(Budget& budget, const Value& value);
Result<int64_t> Length(const Value& value);

// Equal for keys of a dict that are equal, else different; an error for what can't be a key.
Result<std::string> HashKey(Budget& budget, const Value& value);

// str() and repr(). Values whose text would be an address are errors.
Result<Value> ToText(Budget& budget, const Value& value);
Status AppendText(Budget& budget, const Value& value, std::string* out);
Status AppendRepr(Budget& budget, const Value& value, std::string* out);

// value[index]; kAbsent where Python raises LookupError or TypeError.
Result<Value> ItemAt(Budget& budget, const Value& value, const Value& index);
// value[start:stop:step]; kAbsent or none are left out.
Result<Value> Slice(Budget& budget, const Value& value, const Value& start, const Value& stop, const Value& step);

// `format` % `arguments`, and format.format(…) with `field` giving the value that a name such as "0" or "user" stands for.
Result<Value> Percent(Budget& budget, const Value& format, const Value& arguments);
Result<std::string> FormatValue(Budget& budget, const Value& value, std::string_view spec);

Error UndefinedError(const Value& undefined);
Error NoSuchOperation(std::string_view operation, const Value& a, const Value& b);

}  // namespace sotto::jinja
