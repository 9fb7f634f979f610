"use strict";
const STEP = 100;
const byId = (id) => document.getElementById(id);
let records = [];
let models = [];
let reported = new Set();
let starts = [];
let first = NaN;
let last = NaN;
const page = (name) => (reported.has(name) ? name.replace(/ipynb$/, "html") : name);
const form = byId("filters");
const shown = { models: 10, records: STEP };
const time = (text) => (text || "").slice(0, 19).replace("T", " ");
const outcomes = (record) =>
  record.status !== "completed" ? [record.status] : [record.result, record.verdict, record.override && "against the verdict", record.mark].filter(Boolean);

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function cell(of, ...children) {
  const made = make("td", {}, ...children);
  if (of) made.dataset.of = of;
  return made;
}

function link(name, text) {
  return make("a", { href: name.split("/").map(encodeURIComponent).join("/") }, text);
}

function badges(words, mark) {
  const look = (word) => (mark && (word === mark || word.startsWith("promote")) ? "doubt" : word.split(" ")[0]);
  return words.map((word) => make("span", { className: `badge ${look(word)}` }, word));
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const weak = (mark) => ["no evidence of skill", "not compared"].includes(mark);

function standing(model) {
  const mark = ((model.reigns || []).at(-1) || [])[3];
  return model.champion && mark ? [" ", ...badges([mark], weak(mark) && mark)] : [];
}

function timeline(model) {
  const periods = (model.reigns || []).filter((period) => period[0]);
  const words = periods.map((period) => `version ${period[0]} from ${time(period[1])} to ${period[2] ? time(period[2]) : "now"}${period[3] ? `, ${period[3]}` : ""}`);
  const drawn = svg("svg", { class: "periods", viewBox: "0 0 240 22", role: "img", "aria-label": words.join("; ") || "never" });
  const place = (moment) => (240 * (Date.parse(moment) - first)) / (last - first);
  periods.forEach((period, row) => {
    const x = place(period[1]);
    const width = Math.max(2, place(period[2] || model.asof) - x);
    const fill = weak(period[3]) ? "#7a4f00" : period[3] ? "#9b1c1c" : row % 2 ? "#37474f" : "#00604d";
    const bar = svg("rect", { x, y: 2, width, height: 18, fill });
    bar.append(Object.assign(svg("title", {}), { textContent: words[row] }));
    drawn.append(bar);
    if (width > 16) {
      const number = svg("text", { x: x + 4, y: 15, fill: "#fff", "font-size": 12 });
      number.textContent = period[0];
      drawn.append(number);
    }
  });
  return drawn;
}

function verified(model) {
  const found = model.verified;
  if (!found) return make("span", { className: "alarm" }, "not yet");
  const problems = (found.problems || []).length;
  if (problems) return make("span", { className: "alarm" }, `${problems} problem${problems > 1 ? "s" : ""}`);
  return found.time < (model.decided || "") ? "before its last decision" : "yes";
}

const percent = (number) => `${number < 0 ? "−" : "+"}${Math.abs(100 * number).toFixed(3)} %`;

function next(model) {
  const [session, number, status] = model.next || [];
  if (!session) return "-";
  return number === null ? `none for ${session}` : `${percent(number)} for ${session}${status === "late" ? ", late" : ""}`;
}

function watched(model) {
  const [word, day] = model.watch || [];
  if (!word) return "-";
  return make("span", { className: word === "alarm" ? "alarm" : "", title: model.watch[2] }, `${word}, ${day}`);
}

function showLive() {
  const named = (chosen, text) => chosen.slice(0, 20).map((model) => make("li", {}, make("strong", {}, model.symbol || model.model), `: ${text(model)}`));
  const alarms = models.filter((model) => model.watch && ["alarm", "in doubt"].includes(model.watch[0]));
  alarms.sort((a, b) => (a.watch[0] < b.watch[0] ? -1 : a.watch[0] > b.watch[0] ? 1 : a.symbol < b.symbol ? -1 : 1));
  const sessions = models.filter((model) => model.next).map((model) => model.next[0]).sort();
  const latest = models.filter((model) => model.next && model.next[0] === sessions.at(-1));
  latest.sort((a, b) => (a.next[1] === null) === (b.next[1] === null) ? (a.symbol < b.symbol ? -1 : 1) : a.next[1] === null ? -1 : 1);
  const box = byId("live");
  box.hidden = !(alarms.length || latest.length);
  if (alarms.length) {
    box.classList.add("bad");
    box.append(make("strong", {}, "Alarms and doubts"), make("ul", {}, ...named(alarms, (model) => `${model.watch[0]}, ${model.watch[1]}. ${model.watch[2]}`)));
  }
  if (latest.length) {
    const numbers = latest.filter((model) => model.next[1] !== null).length;
    const about = `Forecasts of ${sessions.at(-1)}: ${numbers} of ${latest.length} symbols have a number.`;
    const words = ([, number, status]) => (number === null ? status : `${percent(number)}${status === "late" ? ", late" : ""}`);
    const missing = latest.filter((model) => model.next[1] === null).slice(0, 20);
    const numbered = latest.slice(missing.length, 20);
    box.append(make("strong", {}, about), make("ul", {}, ...named(missing, (model) => words(model.next))), make("ul", { className: "many" }, ...named(numbered, (model) => words(model.next))));
    if (latest.length > 20) box.append(`${latest.length - 20} more below.`);
  }
}

function showModels(symbol) {
  const chosen = models.filter((model) => !symbol || (model.symbol || "").toUpperCase().startsWith(symbol));
  byId("production").tBodies[0].replaceChildren(
    ...chosen.slice(0, shown.models).map((model) =>
      make("tr", {},
        cell("", make("strong", {}, model.symbol || model.model)),
        cell("Version", model.champion ? String(model.champion) : model.asof ? "none" : "not known here", ...standing(model)),
        cell("Since", time(model.since)),
        cell("By", model.record ? link(page(model.record), "its record") : model.champion ? "no record" : "-"),
        cell("Next forecast", next(model)),
        cell("Watch", watched(model)),
        cell("Verified", verified(model)),
        cell("", timeline(model)))));
  more("models", chosen.length, "symbols");
}

function showRecords(wanted) {
  const chosen = records.filter((record) =>
    (!wanted.symbol || (record.symbol || "").toUpperCase().startsWith(wanted.symbol)) &&
    (!wanted.kind || record.kind === wanted.kind) &&
    (!wanted.outcome || outcomes(record).includes(wanted.outcome)) &&
    (!wanted.from || record.started.slice(0, 10) >= wanted.from) &&
    (!wanted.to || record.started.slice(0, 10) <= wanted.to));
  byId("count").textContent = `${chosen.length.toLocaleString("en")} of ${records.length.toLocaleString("en")} records, newest first`;
  byId("list").tBodies[0].replaceChildren(
    ...chosen.slice(0, shown.records).map((record) => {
      const both = [link(page(record.name), record.kind)];
      if (record.report) both.push(" ", link(record.name, "(notebook)"));
      const row = make("tr", {},
        cell("", time(record.started)), cell("", make("strong", {}, record.symbol || "all")), cell("", ...both),
        cell("", ...badges(outcomes(record).length ? outcomes(record) : ["completed"], record.mark)),
        cell("Version", record.version ? String(record.version) : "-"),
        cell("", record.text || ""), cell("By", record.actor || "", record.unseen ? ", no approver" : ""));
      row.cells[0].className = "time";
      row.cells[5].className = "why";
      return row;
    }));
  more("records", chosen.length, "records");
}

function more(what, count, named) {
  const button = byId(`more-${what}`);
  button.hidden = count <= shown[what];
  button.textContent = `Show more: ${Math.max(0, count - shown[what])} ${named} left`;
}

function show() {
  const wanted = Object.fromEntries(new FormData(form));
  wanted.symbol = wanted.symbol.trim().toUpperCase();
  history.replaceState(null, "", `#${new URLSearchParams(Object.entries(wanted).filter(([, value]) => value))}`);
  showModels(wanted.symbol);
  showRecords(wanted);
}

function showVerified() {
  const done = models.filter((model) => model.verified);
  const problems = done.flatMap((model) => (model.verified.problems || []).map((found) => `${model.symbol || model.model}: ${found}`));
  const times = done.map((model) => model.verified.time).sort();
  const box = byId("verified");
  const missing = models.length - done.length;
  if (!models.length) box.append("No decisions yet.");
  else if (!done.length) box.append("Not verified yet. Type: ", make("code", {}, "fx verify"));
  else {
    const found = problems.length ? `${problems.length} problem${problems.length > 1 ? "s" : ""} found` : "No problem found";
    const without = missing ? `; ${missing} of ${models.length} were not verified` : "";
    box.append(make("strong", {}, `${found} by fx verify`), ` (the last time at ${time(times.at(-1))} UTC${without}).`);
    if (problems.length) {
      const rest = problems.length > 20 ? [`${problems.length - 20} more: fx verify`] : [];
      box.append(make("ul", {}, ...[...problems.slice(0, 20), ...rest].map((text) => make("li", {}, text))));
    }
    box.classList.add(problems.length ? "bad" : missing ? "some" : "good");
  }
  const asked = [...new Set(models.map((model) => time(model.asof)))].filter(Boolean).sort();
  const between = asked.length > 1 ? `between ${asked[0]} and ${asked.at(-1)}` : `at ${asked[0]}`;
  byId("asof").textContent = asked.length ? `State of the registry ${between} UTC; fx records updates it.` : "";
  if (starts.length) byId("span").textContent = `Timeline, ${time(new Date(first).toISOString())} to ${time(new Date(last).toISOString())}`;
}

function options(select, values) {
  select.append(...[...new Set(values)].sort().map((value) => make("option", { value }, value)));
}

function take(text) {
  const lines = new Map(); // the last line about a record or a model counts
  for (const line of text.split("\n")) {
    try {
      const facts = JSON.parse(line);
      lines.set(facts.name || `model ${facts.model}`, facts);
    } catch {} // empty, or torn
  }
  records = [...lines.values()].filter((facts) => facts.name);
  records.sort((a, b) => (a.started < b.started ? 1 : a.started > b.started ? -1 : a.name < b.name ? 1 : -1));
  models = [...lines.values()].filter((facts) => facts.model).sort((a, b) => (a.symbol < b.symbol ? -1 : 1));
  reported = new Set(records.filter((record) => record.report).map((record) => record.name));
  starts = models.flatMap((model) => (model.reigns || []).map((period) => Date.parse(period[1])));
  first = Math.min(...starts);
  last = Math.max(...models.map((model) => Date.parse(model.asof || 0)), first + 1000);
  options(form.elements.kind, records.map((record) => record.kind));
  options(form.elements.outcome, records.flatMap(outcomes));
  const symbols = [...models, ...records.filter((record) => record.status === "completed")].map((of) => of.symbol);
  byId("symbols").append(...[...new Set(symbols.filter(Boolean))].sort().map((value) => make("option", { value })));
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  showVerified();
  showLive();
  show();
}

const anew = () => {
  Object.assign(shown, { models: 10, records: STEP });
  show();
};
form.addEventListener("input", anew);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(anew));
byId("more-records").addEventListener("click", () => { shown.records += STEP; show(); });
byId("more-models").addEventListener("click", () => { shown.models += STEP; show(); });
const data = make("iframe", { src: "{{ data }}", hidden: true, title: "data" });
addEventListener("message", (event) => event.source === data.contentWindow && take(event.data));
document.body.append(data);
