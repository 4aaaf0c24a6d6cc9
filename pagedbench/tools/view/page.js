// What the user does: zoom, move, search, click; and the panel that says what happened.

const poolCanvas = byId("pool"), timelineCanvas = byId("timeline");

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function link(text, action) {
  const button = element("button", text);
  button.type = "button";
  button.className = "link";
  button.addEventListener("click", action);
  return button;
}

const requestLink = (id) => id === NONE ? "unknown" : link(`request ${id}`, () => showRequest(id, true));
const seconds = (value) => Number.isNaN(value) ? "never" : `${value.toFixed(value < 10 ? 3 : 2)} s`;
const whole = (value) => value.toLocaleString("en");
const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
const at = (step) => `${seconds(secondsAt(step))} (iteration ${whole(step)})`;

function facts(...pairs) {
  const list = element("dl");
  for (const [term, value] of pairs) list.append(element("dt", term), element("dd", undefined, value));
  return list;
}

function showPanel(title, ...children) {
  byId("panel").replaceChildren(element("h2", title), ...children);
}

// What happened

function showOverview() {
  chosen = new Map();
  chosenPreemption = chosenEviction = NONE;
  const swaps = columns.preemption_is_swap.reduce((sum, one) => sum + one, 0);
  const number = columns.preemption_step.length;
  const lost = columns.preemption_lost.reduce((sum, one) => sum + one, 0);
  showPanel("The whole run",
    facts(["preemptions", whole(number)], ["by swapping", whole(swaps)], ["computed again", counted(lost, "token")],
      ["evicted", counted(columns.eviction_step.length, "block")], ["iterations", whole(pool.num_steps)]),
    element("p", number ? "Click a red mark, or press n, to see who was preempted." : "No request was preempted."));
  draw();
}

function showPreemption(i, isMoving) {
  const victim = columns.preemption_victim[i], cause = columns.preemption_cause[i], step = columns.preemption_step[i];
  const back = columns.preemption_back[i], isSwap = columns.preemption_is_swap[i];
  chosenPreemption = i;
  chosenEviction = NONE;
  chosen = new Map([[cause, "cause"], [victim, "victim"]]);
  const lost = columns.preemption_lost[i];
  const cost = isSwap ? "nothing: its blocks moved to the host" : `${counted(lost, "token")} a second time`;
  const return_ = back === NONE ? "never" : `${at(back)}, after ${seconds(secondsAt(back) - secondsAt(step))}`;
  showPanel(`Preemption ${whole(i + 1)} of ${whole(columns.preemption_step.length)}`,
    facts(["who lost", requestLink(victim)], ["when", at(step)],
      ["lost", `${counted(columns.preemption_blocks[i], "block")} of the device`],
      ["who needed room", cause === victim ? "the same: no later one was left" : requestLink(cause)],
      ["computed again", cost], ["came back", return_]));
  if (isMoving) moveTo(xOfStep(step), xOfStep(back === NONE ? step + 1 : back));
  draw();
}

function showEviction(i, isMoving) {
  const { eviction_step: steps, eviction_cause: causes, eviction_owner: owners } = columns;
  let first = i, end = i + 1;
  while (first > 0 && steps[first - 1] === steps[i] && causes[first - 1] === causes[i]) first--;
  while (end < steps.length && steps[end] === steps[i] && causes[end] === causes[i]) end++;
  chosenEviction = first;
  chosenPreemption = NONE;
  const losers = new Set(owners.slice(first, end));
  chosen = new Map([...[...losers].map((owner) => [owner, "victim"]), [causes[i], "cause"]]);
  const list = element("ul");
  for (let k = first; k < Math.min(end, first + 12); k++) {
    const idle = columns.eviction_idle_since[k];
    const since = idle === NONE ? "" : `, idle for ${seconds(secondsAt(steps[k]) - secondsAt(idle))}`;
    list.append(element("li", undefined, `block ${columns.eviction_block[k]} of `, requestLink(owners[k]), since));
  }
  if (end > first + 12) list.append(element("li", `and ${counted(end - first - 12, "more block")}`));
  showPanel(`Eviction of ${counted(end - first, "block")}`,
    facts(["when", at(steps[i])], ["who needed room", requestLink(causes[i])],
      ["whose content", counted(losers.size, "request")],
      ["if asked for again", `${whole((end - first) * pool.block_size)} tokens to compute`]), list);
  if (isMoving) moveTo(xOfStep(steps[i]), xOfStep(steps[i]));
  draw();
}

function showRequest(id, isMoving, block) {
  const row = requestRow.get(id);
  if (row === undefined) { showPanel(`Request ${id}`, element("p", "There is no such request in this run.")); return; }
  const value = (name) => columns[`request_${name}`][row];
  chosen = new Map([[id, "cause"]]);
  chosenPreemption = chosenEviction = NONE;
  const own = [];
  columns.preemption_victim.forEach((victim, i) => { if (victim === id) own.push(i); });
  const list = element("ul");
  for (const i of own) list.append(element("li", undefined, link(at(columns.preemption_step[i]), () => showPreemption(i, true))));
  showPanel(`Request ${id}`, block ?? "",
    facts(["prompt", counted(value("prompt_len"), "token")], ["reply", counted(value("output_len"), "token")],
      ...(value("n") > 1 ? [["sequences", whole(value("n"))]] : []),
      ...(value("cached_tokens") ? [["found in cache", counted(value("cached_tokens"), "token")]] : []),
      ["arrived", seconds(value("arrival"))], ["admitted", seconds(value("admit"))],
      ["first token", seconds(value("first_token"))], ["finished", seconds(value("finish"))],
      ["preempted", counted(value("preemptions"), "time")]), list);
  const [from, to] = [value("admit"), value("finish")].map((time) => axis === "time" ? time : translated(time * 1e6, columns.step_micros, columns.step_number));
  if (isMoving && from <= to) moveTo(from, to);
  draw();
}

const STATES = ["owned", "shared", "idle, kept in the prefix cache"];

function rectangleAt(x, y) {
  let found = NONE;
  for (let i = 0; i < edges[0].length; i++) {
    if (edges[0][i] > x || edges[1][i] <= x) continue;
    const row = rowOf(i);
    if (row <= y && y < row + columns.rect_height[i]) found = i;
  }
  return found;
}

// Where the view is

function setView(x0, x1, y0 = view.y0, y1 = view.y1) {
  const [from, to] = range(), width = Math.min(Math.max(x1 - x0, (to - from) * 1e-5), to - from);
  const left = Math.min(Math.max(x0, from), to - width), height = Math.min(Math.max(y1 - y0, 2), numRows);
  const top = Math.min(Math.max(y0, 0), numRows - height);
  view = { x0: left, x1: left + width, y0: top, y1: top + height };
  draw();
}

/** Show a stretch of time with some room around it; a larger one that is there already is kept. */
function moveTo(from, to) {
  const [first, last] = range(), least = (last - first) / 30, width = Math.max((to - from) * 1.6, least);
  const middle = (from + to) / 2;
  setView(middle - width / 2, middle + width / 2);
}

function zoom(factor, x, y) {
  const { x0, x1, y0, y1 } = view;
  if (x !== undefined) setView(x - (x - x0) * factor, x + (x1 - x) * factor);
  if (y !== undefined) setView(x0, x1, y - (y - y0) * factor, y + (y1 - y) * factor);
}

const showAll = () => setView(...range(), 0, numRows);

function placeOf(event) {
  const box = poolCanvas.getBoundingClientRect(), px = event.clientX - box.left - LEFT, py = event.clientY - box.top;
  return {
    x: view.x0 + px / (box.width - LEFT) * (view.x1 - view.x0), py,
    y: view.y0 + (py - MARKS) / (box.height - BOTTOM - MARKS) * (view.y1 - view.y0),
    perPixel: (view.x1 - view.x0) / (box.width - LEFT),
  };
}

/** The mark nearest to x, or `NONE` if it is more than 8 pixels away. */
function markAt(steps, x, perPixel) {
  let best = NONE, distance = 8 * perPixel;
  for (let i = 0; i < steps.length; i++) {
    const away = Math.abs(xOfStep(steps[i]) - x);
    if (away < distance) { best = i; distance = away; }
  }
  return best;
}

function clicked(event) {
  const { x, y, py, perPixel } = placeOf(event);
  if (py < MARKS) {
    const isPreemption = py < MARKS / 2;
    const mark = markAt(isPreemption ? columns.preemption_step : columns.eviction_step, x, perPixel);
    if (mark !== NONE) (isPreemption ? showPreemption : showEviction)(mark, false);
    return;
  }
  const i = rectangleAt(x, y);
  if (i === NONE) { showOverview(); return; }
  const start = columns.rect_start[i], end = columns.rect_end[i], height = columns.rect_height[i];
  const block = columns.rect_block[i], unit = pool.is_extents ? "slots" : "blocks";
  const range_ = height > 1 ? `${unit} ${block} to ${block + height - 1}` : `block ${block}`;
  const where = columns.rect_tier[i] ? " on the host" : "";
  const text = `${range_}${where}: ${STATES[columns.rect_state[i]]} from ${at(start)} to ${at(end)}`;
  showRequest(columns.rect_owner[i], false, element("p", text));
}

function pointed(event) {
  const { x, y } = placeOf(event), [from, to] = range();
  cursorX = Math.min(Math.max(x, from), to);
  const step = Math.min(Math.floor(stepAt(cursorX)), pool.num_steps - 1), i = Math.min(before(columns.step_number, step), columns.step_running.length - 1);
  const series = (name) => columns[`step_${name}`][i];
  const parts = ["token_states", "reserved", "internal", "external", "free"].map((name) => `${name.replace("_", " ")} ${whole(series("kv_" + name))}`);
  const found = rectangleAt(cursorX, y), block = Math.floor(y);
  const who = found === NONE ? "free" : `${STATES[columns.rect_state[found]]}, request ${columns.rect_owner[found]}`;
  const here = y >= 0 && y < pool.num_blocks ? ` Block ${block}: ${who}.` : "";
  byId("cursor").textContent = `${at(step)}: ${whole(series("running"))} running, ${whole(series("waiting"))} waiting, ` +
    `${whole(series("swapped"))} swapped out; slots: ${parts.join(", ")}.${here}`;
  drawTimeline();
}

function stepThrough(steps, current, direction, show) {
  if (!steps.length) return;
  let next = current + direction;
  if (current === NONE) {
    const here = stepAt(view.x0);
    next = direction > 0 ? steps.findIndex((step) => step >= here) : steps.length - 1;
  } else if (steps === columns.eviction_step) {
    while (next < steps.length && steps[next] === steps[current]) next++;
  }
  show((next + steps.length) % steps.length, true);
}

const stepPreemptions = (direction) => stepThrough(columns.preemption_step, chosenPreemption, direction, showPreemption);
const stepEvictions = () => stepThrough(columns.eviction_step, chosenEviction, 1, showEviction);

function setAxis(name) {
  const steps = [stepAt(view.x0), stepAt(view.x1)];
  axis = name;
  placeRectangles();
  cursorX = null;
  setView(...steps.map(xOfStep));
}

function pick(group, value) {
  for (const input of document.getElementsByName(group)) input.checked = input.value === value;
  if (group === "axis") setAxis(value); else { mode = value; draw(); }
}

const KEYS = {
  ArrowLeft: () => setView(view.x0 - (view.x1 - view.x0) / 8, view.x1 - (view.x1 - view.x0) / 8),
  ArrowRight: () => setView(view.x0 + (view.x1 - view.x0) / 8, view.x1 + (view.x1 - view.x0) / 8),
  ArrowUp: () => setView(view.x0, view.x1, view.y0 - (view.y1 - view.y0) / 8, view.y1 - (view.y1 - view.y0) / 8),
  ArrowDown: () => setView(view.x0, view.x1, view.y0 + (view.y1 - view.y0) / 8, view.y1 + (view.y1 - view.y0) / 8),
  "+": () => zoom(0.7, (view.x0 + view.x1) / 2), "-": () => zoom(1 / 0.7, (view.x0 + view.x1) / 2), 0: showAll,
  n: () => stepPreemptions(1), p: () => stepPreemptions(-1), e: stepEvictions,
  1: () => pick("mode", "owner"), 2: () => pick("mode", "state"), 3: () => pick("mode", "tier"), 4: () => pick("mode", "part"),
  x: () => pick("axis", axis === "time" ? "step" : "time"), "/": () => byId("search").focus(), Escape: () => showOverview(),
};

function listen() {
  let grip = null;
  poolCanvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = placeOf(event), factor = Math.exp((event.deltaY || event.deltaX) / 400);
    if (event.shiftKey) zoom(factor, undefined, y); else zoom(factor, x);
  }, { passive: false });
  poolCanvas.addEventListener("pointerdown", (event) => {
    grip = { ...placeOf(event), view: { ...view }, left: event.clientX, top: event.clientY, hasMoved: false };
    poolCanvas.setPointerCapture(event.pointerId);
  });
  poolCanvas.addEventListener("pointermove", (event) => {
    pointed(event);
    if (!grip) return;
    const box = poolCanvas.getBoundingClientRect(), old = grip.view;
    const [right, down] = [event.clientX - grip.left, event.clientY - grip.top];
    grip.hasMoved ||= Math.hypot(right, down) > 4;
    const x = right * grip.perPixel, y = down / (box.height - BOTTOM - MARKS) * (old.y1 - old.y0);
    if (grip.hasMoved) setView(old.x0 - x, old.x1 - x, old.y0 - y, old.y1 - y);
  });
  poolCanvas.addEventListener("pointerup", (event) => { if (grip && !grip.hasMoved) clicked(event); grip = null; });
  poolCanvas.addEventListener("dblclick", showAll);
  const scrub = (event) => {
    const box = timelineCanvas.getBoundingClientRect(), [from, to] = range(), half = (view.x1 - view.x0) / 2;
    const middle = from + (event.clientX - box.left - LEFT) / (box.width - LEFT) * (to - from);
    setView(middle - half, middle + half);
  };
  timelineCanvas.addEventListener("pointerdown", (event) => { timelineCanvas.setPointerCapture(event.pointerId); scrub(event); });
  timelineCanvas.addEventListener("pointermove", (event) => { if (event.buttons) scrub(event); });
  for (const name of ["mode", "axis"]) {
    for (const input of document.getElementsByName(name)) input.addEventListener("change", () => pick(name, input.value));
  }
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("change", (event) => {
    const text = event.target.value.trim();
    if (text === "") showOverview(); else showRequest(Number(text), true);
  });
  byId("previous").addEventListener("click", () => stepPreemptions(-1));
  byId("next").addEventListener("click", () => stepPreemptions(1));
  byId("eviction").addEventListener("click", stepEvictions);
  byId("reset").addEventListener("click", showAll);
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input") && event.key !== "Escape";
    const action = isTyping || event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { prepareColours(); draw(); });
}

async function start() {
  byId("facts").textContent = content.facts.join(" · ");
  byId("notes").textContent = content.notes.join(" ");
  byId("simulated").hidden = !content.is_simulated;
  await load();
  prepareColours();
  placeRectangles();
  [view.x0, view.x1] = range();
  listen();
  showOverview();
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  showPanel("This page cannot be shown", element("p", `${error}: open it in a browser of 2023 or later.`));
  console.error(error);
});
