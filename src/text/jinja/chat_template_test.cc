// What a golden can't show: bounds, what is refused, the sentences of errors, and templates that nobody wrote.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/utf8.h"

namespace sotto {
namespace {

using ::testing::HasSubstr;

RenderLimits Small() { return {.max_output_bytes = 1 << 16, .max_memory_bytes = 4 << 20, .max_steps = 300'000}; }

Result<std::string> Render(const std::string& source, const Json& variables = Json::object(),
                           const RenderLimits& limits = Small()) {
  return TRY(ChatTemplate::Parse(source)).Render(variables, limits);
}

std::string Failure(const std::string& source, const Json& variables = Json::object()) {
  const auto text = Render(source, variables);
  return text.ok() ? "no error, but: " + *text : text.error().message;
}

std::string Times(std::string_view text, int count) {
  std::string out;
  for (; count > 0; --count) out += text;
  return out;
}

TEST(ChatTemplate, TheOrderOfTheVariablesIsKept) {
  const Json tool = Json::parse(R"({"name": "f", "z": 1, "a": {"y": null, "b": [1.0, 2]}})");
  EXPECT_EQ(Render("{{ tools | tojson }}", {{"tools", Json::array({tool})}}).value(),
            R"([{"name": "f", "z": 1, "a": {"y": null, "b": [1.0, 2]}}])");
}

TEST(ChatTemplate, TheLocalTimeIsTheDefault) {
  const std::string year = Render("{{ strftime_now('%Y') }}").value();
  EXPECT_GE(std::stoi(year), 2024);
}

TEST(ChatTemplate, ATemplateMayBeRenderedOften) {
  const ChatTemplate chat =
      ChatTemplate::Parse("{% set ns = namespace(n=n) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}").value();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(chat.Render({{"n", i}}).value(), std::to_string(i + 1));
}

TEST(ChatTemplate, ErrorsNameTheConstructAndItsLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\n{{ missing.role }}", "line 2: 'missing' is undefined"},
      {"{% if true %}\n\n{{ {'a': 1}.b.c }}{% endif %}", "line 3: 'dict' has no attribute 'b'"},
      {"\n{{ 1 + 'x' }}", "line 2: '+' isn't defined for int and str"},
      {"\n{{ x | pprint }}", "line 2: the filter 'pprint' isn't supported"},
      {"{{ x | nosuch }}", "line 1: there is no filter 'nosuch'"},
      {"{{ x is nosuch }}", "line 1: there is no test 'nosuch'"},
      {"\n\n{% include 'x' %}", "line 3: the tag 'include' isn't supported"},
      {"{% for x in y %}", "line 1: the template ends where {% endfor %} is expected"},
      {"{% if x %}\n{% endfor %}", "line 2: the tag 'endfor'"},
      {"{{ x", "line 1: the end where '}}' is expected"},
      {"{{ 'a'.encode() }}", "str.encode isn't supported"},
      {"{{ '\\N{DIGIT ONE}' }}", "\\N"},
      {"{{ [].append(1) }}", "access to attribute 'append' of 'list' is unsafe"},
      {"{{ range }}", "a function can't be printed"},
      {"{{ 'x' | map('upper') }}", "a generator can't be printed"},
      {"{{ 9223372036854775807 + 1 }}", "64 bits"},
      {"{{ 99999999999999999999 }}", "64 bits"},
      {"{{ lipsum() }}", "lipsum"},
      {"{{ self }}", "self"},
  };
  for (const auto& [source, part] : cases) EXPECT_THAT(Failure(source), HasSubstr(part)) << source;
  EXPECT_EQ(ChatTemplate::Parse("{% nosuch %}").error().code, Code::kBadModel);
  EXPECT_EQ(Render("{{ 1 / 0 }}").error().code, Code::kBadInput);
}

TEST(ChatTemplate, RaiseExceptionGivesItsMessageAlone) {
  const auto text = Render("{{ raise_exception('Roles must ' ~ 'alternate') }}");
  EXPECT_EQ(text.error().code, Code::kBadInput);
  EXPECT_EQ(text.error().message, "Roles must alternate");
}

TEST(ChatTemplate, WhatIsNotSupportedIsAnErrorThatSaysSo) {
  for (const char* tag : {"extends 'x'", "block a", "include 'x'", "import 'x' as y", "from 'x' import y",
                          "autoescape true", "do x", "trans", "debug"})
    EXPECT_THAT(Failure(std::string("{% ") + tag + " %}"), HasSubstr("isn't supported")) << tag;
  for (const char* filter :
       {"filesizeformat", "pprint", "random", "striptags", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"})
    EXPECT_THAT(Failure(std::string("{{ 'x' | ") + filter + " }}"), HasSubstr("isn't supported")) << filter;
}

TEST(ChatTemplate, SourcesAndVariablesAreChecked) {
  EXPECT_FALSE(ChatTemplate::Parse(std::string(ChatTemplate::kMaxSourceBytes + 1, 'x')).ok());
  EXPECT_TRUE(ChatTemplate::Parse(std::string(ChatTemplate::kMaxSourceBytes, 'x')).ok());
  EXPECT_FALSE(ChatTemplate::Parse("\xFFx").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ '\\ud83d' }}").ok());
  EXPECT_FALSE(Render("{{ x }}", Json::array()).ok());
  EXPECT_FALSE(Render("{{ x }}", {{"x", "\xC0\x80"}}).ok());
  EXPECT_FALSE(Render("{{ x }}", {{"x", 18446744073709551615ULL}}).ok());
  EXPECT_EQ(Render("{{ y }}", {{"x", "\xC0\x80"}}).value(), "");  // a variable that the template doesn't name
}

TEST(ChatTemplate, WorkIsBounded) {
  for (const char* source :
       {"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n) ~ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set s = 'ab' * 999 %}{% for i in range(9999) %}{{ s.count('b') }}{{ s.strip() }}{% endfor %}",
        "{% set s = 'a' * 99999 %}{% for i in range(9999) %}{{ s.rfind('a' * 5000 ~ 'b') }}{% endfor %}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, "
        "ns.y] %}"
        "{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=()) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} "
        "}}"})
    EXPECT_THAT(Failure(source), ::testing::AnyOf(HasSubstr("more steps"), HasSubstr("too deeply"),
                                                  HasSubstr("more memory"), HasSubstr("writes more")))
        << source;
}

TEST(ChatTemplate, OutputAndMemoryAreBounded) {
  EXPECT_THAT(Failure("{% for i in range(9999) %}0123456789{% endfor %}"), HasSubstr("writes more than 65536 bytes"));
  for (const char* source :
       {"{{ ('a' * 10 ** 9) | length }}",
        "{{ ([0] * 10 ** 9) | length }}",
        "{{ ('' * 10 ** 18) | length }}{{ 'a' * 10 ** 18 }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a'.zfill(10 ** 9) }}",
        "{{ 'a'.ljust(10 ** 9, 'x') }}",
        "{{ '%1000000d' % 5 ~ '%1000000d' % 5 ~ x | list }}",
        "{{ '{:>1000000}'.format('x') | list }}",
        "{{ ('a' * 10 ** 4).replace('a', 'b' * 10 ** 4) }}",
        "{{ ('x' * 10 ** 4) | join('y' * 10 ** 4) }}",
        "{{ [1] | batch(10 ** 9, 0) | list }}",
        "{{ 'a\nb' | indent(10 ** 9) }}",
        "{{ ('a' * 10 ** 6) | list }}",
        "{{ [1, [2]] | tojson(indent='x' * 10 ** 6) | list }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[0]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(x=[0]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=0) %}{% for i in range(40) %}{% set ns.x = {0: ns.x, 1: ns.x} %}{% endfor %}{{ ns.x | "
        "tojson }}",
        "{% set s = 'abcdefgh' * 9999 %}{% for a in range(99) %}{% set x %}{% for b in range(99) %}{{ s }}{% endfor "
        "%}{% endset %}{% endfor %}",
        "{{ (range(100000) | map('string') | map('center', 50) | unique | list) | length }}",
        "{{ dict(range(90000) | batch(2)) | length }}"})
    EXPECT_THAT(Failure(source), ::testing::AnyOf(HasSubstr("more memory"), HasSubstr("more steps"),
                                                  HasSubstr("writes more"), HasSubstr("too wide")))
        << source;
  EXPECT_THAT(Failure("{{ range(10 ** 6) }}"), HasSubstr("more than 100000 items"));
  EXPECT_THAT(Failure("{{ strftime_now('%4000d' * 3) }}"), HasSubstr("too long"));
}

TEST(ChatTemplate, MemoryIsGivenBack) {
  // 40 MB in all, of which 100 kB live at one time.
  const std::string source = "{% for i in range(400) %}{% set x = 'abcdefghij' * 10000 %}{% endfor %}done";
  EXPECT_EQ(Render(source, Json::object(), {.max_memory_bytes = 400'000, .max_steps = 10'000'000}).value(), "done");
}

TEST(ChatTemplate, NestingIsBounded) {
  const int n = 5000;
  for (const std::string& source : std::vector<std::string>{
           "{{ " + Times("(", n) + "1" + Times(")", n) + " }}", "{{ " + Times("[", n) + Times("]", n) + " }}",
           "{{ " + Times("{1:", n) + "1" + Times("}", n) + " }}", "{{ " + Times("not ", n) + "1 }}",
           "{{ " + Times("- ", n) + "1 }}", "{{ " + Times("1 if ", n) + "1 }}",
           "{{ 1" + Times(" if 1 else 1", n) + " }}", "{{ 1" + Times(" + 1", n) + " }}",
           "{{ x" + Times(".a", n) + " }}", "{{ x" + Times("|upper", n) + " }}", "{{ x" + Times("[0]", n) + " }}",
           "{{ x" + Times("()", n) + " }}", "{{ x" + Times("[x", n) + Times("]", n) + " }}",
           "{{ x" + Times("(x", n) + Times(")", n) + " }}", "{% set " + Times("(", n) + "a" + Times(")", n) + " = 1 %}",
           Times("{% if 1 %}", n) + Times("{% endif %}", n), Times("{% for x in y %}", n) + Times("{% endfor %}", n),
           Times("{% filter upper %}", n) + Times("{% endfilter %}", n)})
    EXPECT_FALSE(ChatTemplate::Parse(source).ok()) << source.substr(0, 40);
  for (const char* source :
       {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x={}) %}{% for i in range(9999) %}{% set ns.x = {1: ns.x} %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x | map('string') %}{% endfor %}{{ "
        "ns.x | list }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x].index %}{% endfor %}",
        "{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = cycler(ns.x) %}{% endfor %}",
        "{% set ns = namespace(x=',') %}{% for i in range(9999) %}{% set ns.x = joiner(ns.x) %}{% endfor %}"})
    EXPECT_THAT(Failure(source), ::testing::AnyOf(HasSubstr("deep"), HasSubstr("levels"))) << source;
}

// Leaks are found by the address sanitizer.
TEST(ChatTemplate, ValuesThatHoldThemselvesAreFreed) {
  for (const char* source :
       {"{% set ns = namespace() %}{% set ns.me = ns %}{% set ns.list = [ns, {'x': ns}] %}{{ ns.me.me.list | length }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a.b.a is defined }}",
        "{% set ns = namespace() %}{% for x in [1, 2] %}{% set ns.loop = loop %}{{ loop.changed(ns.loop) }}{% endfor "
        "%}",
        "{% set ns = namespace() %}{% set ns.g = [ns] | map(attribute='g') %}{% for x in ns.g %}{{ x is defined }}{% "
        "endfor %}",
        "{% set ns = namespace() %}{% for x in [ns, ns] | map(attribute='loop') %}{% set ns.loop = loop %}{% endfor %}",
        "{% set ns = namespace() %}{% macro m() %}{{ ns.m is defined }}{% endmacro %}{% set ns.m = m %}{{ ns.m() }}",
        "{% set ns = namespace() %}{% for i in [1] %}{% macro m() %}{{ i }}{% endmacro %}{% set ns.m = m %}{% endfor "
        "%}{{ ns.m() }}"})
    EXPECT_TRUE(Render(source).ok()) << source << ": " << Failure(source);
  // The length of a filtered loop replaces what it reads from, here while that is read.
  EXPECT_THAT(Failure("{% set ns = namespace(l=none) %}{% for x in [1, 2, 3] if not ns.l or ns.l.length %}"
                      "{% set ns.l = loop %}{% endfor %}"),
              HasSubstr("asks itself"));
  EXPECT_THAT(Failure("{% set ns = namespace() %}{% for x in [1] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.index }}"),
              HasSubstr("after its end"));
}

// Cuts, repeats, swaps and inserts: what comes out must parse or not, render or not, and never crash or go on for ever.
class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  std::string Next() {
    std::string text = Seed();
    for (size_t n = 1 + Below(4); n > 0; --n) {
      const size_t at = Below(text.size() + 1), length = Below(std::min<size_t>(text.size() - at, 40) + 1);
      switch (Below(6)) {
        case 0: text.erase(at, length); break;
        case 1: text.insert(Below(text.size() + 1), text.substr(at, length)); break;
        case 2: text.insert(at, Piece()); break;
        case 3: text.replace(at, length, Piece()); break;
        case 4: {
          const std::string other = Seed();
          const size_t from = Below(other.size() + 1);
          text.insert(at, other.substr(from, Below(60)));
          break;
        }
        default:
          if (at < text.size()) text[at] = static_cast<char>(Below(256));
      }
    }
    return text;
  }

 private:
  // Separated by '@', which Jinja has no use for.
  static constexpr std::string_view kPieces =
      "{{@}}@{%@%}@{#@#}@{%-@-%}@{{-@+%}@(@)@[@]@{@}@'@\"@\\@|@.@,@:@~@*@**@//@%@ if @ else @ in @ is @ not @"
      " and @ or @{% endif %}@{% endfor %}@{% else %}@{% for x in messages %}@{% if loop.last %}@"
      "{% set x = x ~ x %}@{% macro m(x) %}@{% endmacro %}@{{ m(x) }}@{% break %}@{% raw %}@{% endraw %}@loop@"
      "messages@namespace()@range(9)@| tojson@| map('upper')@| list@[::-1]@.items()@** 99@'%s' % @| sort@"
      "| groupby('role')@caller()@varargs@9223372036854775807@-1@1e308@none@\xC3\xA9@\n";
  size_t Below(size_t n) { return random_() % n; }
  std::string Seed() { return seeds_[Below(seeds_.size())]; }
  std::string_view Piece() {
    const size_t end = kPieces.find('@', Below(kPieces.size()));
    const size_t begin = kPieces.rfind('@', end == kPieces.npos ? end : end - 1);
    return kPieces.substr(begin + 1, end - begin - 1);
  }
  std::vector<std::string> seeds_;
  std::mt19937 random_{7};
};

TEST(ChatTemplate, MutatedTemplatesEndInTextOrInAnError) {
  const Json golden =
      Json::parse(ReadSmallFile(SOTTO_SOURCE_DIR "/tests/golden/chat_templates.json", 4 << 20, Code::kFailed).value());
  std::vector<std::string> seeds;
  for (const Json& chat : golden["templates"]) seeds.push_back(chat["source"]);
  for (const Json& line : golden["language"]) seeds.push_back(line[0]);
  Mutator mutator(std::move(seeds));
  const char* wanted = std::getenv("SOTTO_FUZZ_RUNS");
  const int runs = wanted != nullptr ? std::atoi(wanted) : 20000;
  int parsed = 0, rendered = 0;
  for (int i = 0; i < runs; ++i) {
    const std::string source = mutator.Next();
    const auto chat = ChatTemplate::Parse(source);
    if (!chat.ok()) {
      EXPECT_TRUE(IsUtf8(chat.error().message)) << i;
      continue;
    }
    ++parsed;
    Json variables = golden["conversations"][static_cast<size_t>(i) % golden["conversations"].size()];
    variables.update(golden["variables"]);
    const auto text = chat->Render(variables, Small());
    rendered += text.ok();
    EXPECT_TRUE(IsUtf8(text.ok() ? *text : text.error().message)) << source;
    EXPECT_LE(text.ok() ? text->size() : 0, Small().max_output_bytes);
  }
  EXPECT_GT(parsed, runs / 20);  // else the mutations are too wild to test much
  EXPECT_GT(rendered, runs / 40);
}

}  // namespace
}  // namespace sotto
