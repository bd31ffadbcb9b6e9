// The style and the script of page.cc's page. The script shows plans of the grid and formats bytes; it knows no formula.
#include "harness/page.h"

namespace sotto {

const std::string_view kPageStyle = R"css(
:root{--ink:#222831;--faint:#68707a;--paper:#fff;--line:#dfe3e8;--tint:#e3efe6;--yes:#246b3a;--no:#a51d1d;--head:#f4f6f8;
--weights:#587fbf;--cache:#eca654;--activations:#56a068;--process:#c4c8ce}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--faint:#9aa3ad;--paper:#15181c;--line:#333a42;--tint:#1d3a27;--yes:#7fd09a;
--no:#ff8f85;--head:#1d2126}
svg [fill="#222831"]{fill:#e4e7eb}svg [stroke="#222831"]{stroke:#e4e7eb}svg [fill="#68707a"]{fill:#9aa3ad}
svg [fill="#f0f2f5"]{fill:#23282e}svg [fill="#ffffff"]{fill:#15181c}
svg [fill="#c81e1e"]{fill:#ff8f85}svg [stroke="#c81e1e"]{stroke:#ff8f85}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 48px}
h1{font-size:1rem;font-weight:600;color:var(--faint);margin:0 0 4px}
h2{font-size:1.7rem;line-height:1.2;margin:0 0 8px;overflow-wrap:anywhere}
section+section{margin-top:56px;padding-top:32px;border-top:1px solid var(--line)}
h3{font-size:1.15rem;margin:36px 0 10px}
p{margin:0 0 10px;overflow-wrap:anywhere}
.verdict{font-size:1.1rem;font-weight:600;padding-left:12px;border-left:5px solid var(--faint)}
.verdict.yes{border-color:var(--yes);color:var(--yes)}.verdict.no{border-color:var(--no);color:var(--no)}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.93rem}
th,td{padding:5px 14px 5px 0;border-top:1px solid var(--line);text-align:right;white-space:nowrap;font-weight:400}
th:first-child{text-align:left;padding-left:8px;position:sticky;left:0;background:var(--paper)}
thead th,thead th:first-child{color:var(--faint);font-size:.85rem;background:var(--head);border-top:0;white-space:normal}
.parts td:nth-child(4),.parts thead th:nth-child(4){text-align:left;color:var(--faint);padding-left:6px}
tr.own th,tr.own td{font-weight:700}
tr.part th:first-child{padding-left:24px}tr.part th,tr.part td{color:var(--faint);border-top-color:transparent}
tr.total th,tr.total td{font-weight:700;border-top:2px solid var(--ink)}
tr.over td:last-child{color:var(--no)}tr.fits td:last-child{color:var(--yes)}
.grid td,.grid thead th{padding:5px 12px;text-align:right}
.grid td.fits{background:var(--tint)}.grid td.over{color:var(--faint)}
.grid td.own{outline:2px solid var(--ink);outline-offset:-2px;font-weight:700}
.live .grid td{cursor:pointer}
.hint,footer{color:var(--faint);font-size:.9rem}footer{margin-top:56px}
figure{margin:0}figure svg{display:block;width:100%;height:auto}
figure.scroll svg{min-width:760px}
.narrow{display:none}
.calculator{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:10px 28px;align-items:center;margin-bottom:16px}
.calculator[hidden]{display:none}
.calculator>p,.bar,.key{grid-column:1/-1;margin:0}
label{display:flex;gap:10px;align-items:center;white-space:nowrap}
input[type=range]{flex:1;min-width:130px;accent-color:var(--weights)}
input[type=number]{font:inherit;width:7.5em;padding:4px 8px;color:inherit;background:var(--head);border:1px solid var(--line);border-radius:6px}
output{min-width:4.6em;text-align:right;font-variant-numeric:tabular-nums;font-weight:600}
.bar{position:relative;display:flex;height:26px;background:var(--head);border-radius:4px;overflow:hidden}
.bar .process{background:var(--process)}.bar .weights{background:var(--weights)}
.bar .activations{background:var(--activations)}.bar .cache{background:var(--cache)}
.bar b{position:absolute;top:0;bottom:0;width:3px;margin-left:-3px;background:var(--no)}
.key{display:flex;flex-wrap:wrap;gap:4px 22px;font-size:.9rem}
.key div{display:flex;gap:7px;align-items:center}.key dt::before{content:"";display:inline-block;width:11px;height:11px;margin-right:7px;
background:var(--c)}.key dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
@media (max-width:640px){main{padding:16px 12px 32px}h2{font-size:1.35rem}.wide{display:none}.narrow{display:block}
th,td{padding-right:8px}table{font-size:.82rem}tr.part th:first-child{padding-left:18px}.grid td,.grid thead th{padding:5px}
.parts td:nth-child(4),.parts thead th:nth-child(4),.precisions td:nth-child(3),.precisions thead th:nth-child(3),
.precisions td:nth-child(4),.precisions thead th:nth-child(4){display:none}}
@media print{:root{--ink:#000;--faint:#444;--paper:#fff;--line:#bbb;--tint:#e3efe6;--head:#fff;--yes:#000;--no:#000}
main{max-width:none;padding:0}.calculator{display:none}h3{break-after:avoid}figure,tr{break-inside:avoid}
.scroll{overflow:visible}section+section{break-before:page}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
svg [fill="#222831"]{fill:#222831}svg [stroke="#222831"]{stroke:#222831}svg [fill="#68707a"]{fill:#444}
svg [fill="#f0f2f5"]{fill:#f0f2f5}svg [fill="#ffffff"]{fill:#fff}svg [fill="#c81e1e"]{fill:#c81e1e}svg [stroke="#c81e1e"]{stroke:#c81e1e}}
)css";

const std::string_view kPageScript = R"js(
"use strict";
const GIB = 2 ** 30;
const human = n => n >= GIB ? (n / GIB).toFixed(2) + " GiB" : n >= 2 ** 20 ? (n / 2 ** 20).toFixed(1) + " MiB"
  : n >= 1024 ? (n / 1024).toFixed(1) + " KiB" : n + " bytes";
const grouped = n => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
for (const section of document.querySelectorAll("section")) {
  const source = section.querySelector("script[type='application/json']");
  if (!source) continue;
  const data = JSON.parse(source.textContent);
  const find = s => section.querySelector(s);
  const context = find(".context"), batch = find(".batch"), budget = find(".budget"), bar = find(".bar");
  const cells = [...find(".grid").tBodies[0].rows].map(row => [...row.cells].slice(1));
  const limit = () => budget.value === budget.defaultValue ? data.budget : Math.floor(budget.valueAsNumber * data.unit) || 0;
  const show = () => {
    const at = +context.value, beside = +batch.value, most = limit();
    const plan = (b, i) => data.points[b * data.contexts.length + i];
    const [weights, kv, activations, audio, tables, runtime, total] = plan(beside, at);
    context.nextElementSibling.value = grouped(data.contexts[at]);
    batch.nextElementSibling.value = data.batches[beside];
    cells.forEach((row, i) => row.forEach((cell, b) => {
      cell.className = (plan(b, i)[6] <= most ? "fits" : "over") + (b === beside && i === at ? " own" : "");
    }));
    const fits = total <= most, answer = find(".answer");
    answer.className = "answer verdict " + (fits ? "yes" : "no");
    answer.textContent = human(total) + (fits ? " fits: " + human(most - total) + " left."
                                              : " does not fit: " + human(total - most) + " missing.");
    const parts = [["process", "process, tables", runtime + tables], ["weights", "weights", weights],
                   ["activations", "activations, audio", activations + audio], ["cache", "KV cache", kv]];
    const whole = Math.max(total, most);
    for (const [name, , bytes] of parts) bar.querySelector("." + name).style.width = 100 * bytes / whole + "%";
    bar.querySelector("b").style.left = 100 * most / whole + "%";
    find(".key").replaceChildren(...parts.map(([name, label, bytes]) => {
      const entry = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd");
      term.textContent = label;
      term.style.setProperty("--c", "var(--" + name + ")");
      value.textContent = human(bytes);
      entry.append(term, value);
      return entry;
    }));
  };
  for (const input of [context, batch, budget]) input.addEventListener("input", show);
  cells.forEach((row, i) => row.forEach((cell, b) => cell.addEventListener("click", () => {
    context.value = i;
    batch.value = b;
    show();
  })));
  find(".calculator").hidden = false;
  section.classList.add("live");
  show();
}
)js";

}  // namespace sotto
