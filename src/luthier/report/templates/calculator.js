"use strict";
// The same formulas as luthier.economics.cost and .breakeven, in the same order: a test holds the two to 1e-6.
const data = JSON.parse(document.getElementById("data").textContent);
const HOURS = 730, MOST = 120;
const get = (id) => document.getElementById(id);

function replicas(way, world, requests) {
  const busiest = requests * way.shared / (world.active_hours * 3600) * world.peak;
  return Math.max(way.least_replicas, Math.ceil(busiest * way.seconds / way.utilisation - 1e-9));
}
function retrainings(way, month) {
  let found = 0;
  if (way.retrain_every) found = Math.floor(month / way.retrain_every + 1e-9) - Math.floor((month - 1) / way.retrain_every + 1e-9);
  if (way.retires && Math.ceil(way.retires) === month) found += 1;
  return found;
}
function monthCost(way, world, month, errors) {
  const requests = world.requests * Math.pow(1 + world.growth, month - 1);
  const level = Math.pow(1 - world.price_fall, (month - 1) / 12);
  const each = way.tokens * level + way.request + (errors ? way.error : 0);
  const hosts = way.host_hour ? replicas(way, world, requests) * way.host_hour * HOURS / way.shared : 0;
  return requests * each + way.month + hosts + way.retraining * retrainings(way, month);
}
function totalCost(way, world, errors) {
  const rate = Math.pow(1 + world.discount, 1 / 12) - 1;
  let found = way.once;
  for (let month = 1; month <= world.months; month++) found += monthCost(way, world, month, errors) / Math.pow(1 + rate, month);
  return found;
}
function breakEven(fresh, old, world, errors) {
  const more = fresh.once - old.once;
  if (more <= 0) return {months: 0, why: "it costs no more to start with"};
  let saved = 0;
  for (let month = 1; month <= MOST; month++) {
    const gained = monthCost(old, world, month, errors) - monthCost(fresh, world, month, errors);
    if (saved + gained >= more) {
      const months = month - 1 + (gained > 0 ? Math.min(1, Math.max(0, (more - saved) / gained)) : 1);
      if (fresh.retires && months > fresh.retires) return {months: null, why: "its base model is shut down before"};
      return {months, why: ""};
    }
    saved += gained;
  }
  const first = monthCost(old, world, 1, errors) - monthCost(fresh, world, 1, errors);
  return {months: null, why: first <= 0 ? "it costs " + dollars(-first) + " more a month" + (errors ? ", wrong answers included" : "") : "not within " + MOST + " months"};
}

// ---------------------------------------------------------------- where the sliders stand

const significant = (value) => Number(value.toPrecision(3));
const volume = () => get("volume").dataset.touched ? significant(Math.pow(10, Number(get("volume").value))) : data.world.requests;
const price = () => get("price").dataset.touched ? significant(Math.pow(10, Number(get("price").value))) : 1;
const errorPrice = () => data.counts_errors && get("errors").dataset.touched ? significant(Math.pow(10, Number(get("errors").value))) : 1;
const horizon = () => Number(get("horizon").value);

function world() { return {...data.world, requests: volume(), months: horizon()}; }
function numbers(name) {
  const way = data.ways.find((each) => each.name === name);
  const now = {...way.numbers, tokens: way.numbers.tokens * price(), error: way.numbers.error * errorPrice()};
  if (way.accuracy !== null && name === get("of").value && get("accuracy").dataset.touched) {
    const wrong = 1 - way.accuracy, share = Number(get("accuracy").value);
    now.error = wrong > 0 ? way.error_usd * (1 - share) / wrong * errorPrice() : (way.usd_per_error || 0) * (1 - share) * errorPrice();
  }
  return now;
}

// ---------------------------------------------------------------- what is shown

function dollars(value) {
  const size = Math.abs(value), sign = value < 0 ? "\u2212" : "";
  if (size >= 1e12) return sign + "$" + Number((size / 1e12).toPrecision(3)).toLocaleString("en") + " trillion";
  if (size >= 1e9) return sign + "$" + (size / 1e9).toPrecision(3) + " billion";
  if (size >= 1e6) return sign + "$" + (size / 1e6).toPrecision(3) + " million";
  if (size >= 100) return sign + "$" + Math.round(size).toLocaleString("en");
  if (size >= 0.1) return sign + "$" + size.toFixed(2);
  return size ? sign + "$" + Number(size.toPrecision(2)) : "$0";
}
function inMonths(months) {
  if (months === null) return "never";
  const days = Math.round(months * 30.4375);
  if (days === 0) return "at once";
  if (months < 0.95) { return days + (days === 1 ? " day" : " days"); }
  return months.toFixed(1) + " months";
}
const text = (id, value) => { get(id).textContent = value; };

function show() {
  const now = world(), errors = data.counts_errors, of = get("of").value, against = get("against").value;
  const totals = new Map(data.ways.map((way) => [way.name, totalCost(numbers(way.name), now, errors)]));
  const may = data.ways.filter((way) => way.may_be_chosen).map((way) => way.name);
  const cheapest = may.length ? may.reduce((best, name) => totals.get(name) < totals.get(best) ? name : best) : null;
  const found = breakEven(numbers(of), numbers(against), now, errors);
  const output = get("break-even");
  output.dataset.months = found.months === null ? "never" : String(found.months);
  output.dataset.requests = String(now.requests);
  output.dataset.price = String(price());
  output.dataset.errors = String(errorPrice());
  output.dataset.total = String(totals.get(of));
  output.dataset.cheapest = cheapest || "";
  const pair = of + " against " + against;
  text("break-even", of === against ? "Choose two ways to see when one pays back" : found.months === null ? pair + " never pays back: " + found.why : found.months === 0 ? pair + " has nothing to pay back" : pair + " pays back " + (inMonths(found.months) === "at once" ? "at once" : "after " + inMonths(found.months)));
  const least = data.ways.find((each) => each.name === cheapest), chosen = data.ways.find((each) => each.name === data.chosen);
  text("known", [
    least && data.chosen && !least.measured ? cheapest + " is only stated: nobody has measured it here." : "",
    chosen && cheapest !== data.chosen ? "The run chose " + data.chosen + ": " + dollars(totals.get(data.chosen)) + "." : "",
  ].join(" ").trim());
  const span = now.months === 1 ? "1 month" : now.months + " months";
  text("cheapest", cheapest ? cheapest + " costs least: " + dollars(totals.get(cheapest)) + " over " + span : "No way may be chosen");
  text("over", "Over " + span);
  text("volume-is", now.requests.toLocaleString("en") + " a month");
  text("price-is", price() === 1 ? "as today" : price() + " times today's");
  text("horizon-is", now.months + (now.months === 1 ? " month" : " months"));
  if (errors) text("errors-is", errorPrice() === 1 ? "as stated" : errorPrice() + " times as stated");
  const way = data.ways.find((each) => each.name === of);
  get("accuracy").disabled = way.accuracy === null || !errors;
  if (way.accuracy !== null && !get("accuracy").dataset.touched) get("accuracy").value = way.accuracy;
  text("accuracy-of", of);
  text("accuracy-is", way.accuracy === null ? "unknown" : (100 * Number(get("accuracy").value)).toFixed(1) + " %" + (errors ? "" : " (worth nothing without usd_per_error)"));
  rows(now, totals, cheapest, errors);
  draw(now, of, against, errors);
}
function rows(now, totals, cheapest, errors) {
  const body = get("rows");
  body.replaceChildren();
  for (const way of [...data.ways].sort((a, b) => totals.get(a.name) - totals.get(b.name))) {
    const own = numbers(way.name), row = document.createElement("tr");
    if (way.name === cheapest) row.className = "hero";
    const month = monthCost({...own, retraining: 0}, now, 1, false);
    const cells = [way.name, dollars(totals.get(way.name)), dollars(own.once), dollars(month), dollars(1000 * (month / now.requests))];
    cells.forEach((value, at) => {
      const cell = document.createElement(at ? "td" : "th");
      if (at) cell.className = "num"; else cell.scope = "row";
      cell.textContent = value;
      if (!at && !way.may_be_chosen) { const note = document.createElement("span"); note.className = "small soft"; note.textContent = "may not be chosen: " + (way.excluded || "not asked for"); cell.append(note); }
      row.append(cell);
    });
    body.append(row);
  }
}
function draw(now, of, against, errors) {
  const svg = get("chart"), shown = [of, against], lines = shown.map((name) => {
    const own = numbers(name), points = [own.once];
    for (let month = 1; month <= now.months; month++) points.push(points[month - 1] + monthCost(own, now, month, errors));
    return points;
  });
  const top = Math.max(...lines.flat(), 1e-9);
  svg.replaceChildren();
  lines.forEach((points, at) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.map((value, month) => (100 * month / now.months).toFixed(3) + "," + (100 - 100 * value / top).toFixed(3)).join(" "));
    line.setAttribute("vector-effect", "non-scaling-stroke");
    line.setAttribute("class", at ? "old" : "mean");
    svg.append(line);
  });
  text("top", dollars(top)); text("last", now.months + (now.months === 1 ? " month" : " months"));
  text("key-of", of); text("key-against", against);
  svg.setAttribute("aria-label", "Dollars spent since the start, by month: " + of + " and " + against);
}

// ---------------------------------------------------------------- start

for (const id of ["of", "against"]) for (const way of data.ways) get(id).append(new Option(way.name, way.name));
get("of").value = data.pair[0]; get("against").value = data.pair[1];
get("volume").min = Math.log10(data.world.requests) - 3; get("volume").max = Math.log10(data.world.requests) + 3;
get("volume").value = Math.log10(data.world.requests);
get("horizon").value = data.world.months;
for (const id of ["volume", "price", "horizon", "accuracy", "errors"]) {
  const input = get(id);
  if (input) input.addEventListener("input", () => { input.dataset.touched = "yes"; show(); });
}
for (const id of ["of", "against"]) get(id).addEventListener("change", () => { delete get("accuracy").dataset.touched; show(); });
get("reset").addEventListener("click", () => {
  for (const id of ["volume", "price", "accuracy", "errors"]) { const input = get(id); if (input) { delete input.dataset.touched; } }
  get("volume").value = Math.log10(data.world.requests); get("price").value = 0; get("horizon").value = data.world.months;
  if (get("errors")) get("errors").value = 0;
  show();
});
show();
