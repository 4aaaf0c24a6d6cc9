// What the user does: zoom, move, search, point, click, press keys.

const poolCanvas = byId("pool"), timelineCanvas = byId("timeline");

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
function markAt(places, x, perPixel) {
  let best = NONE, distance = 8 * perPixel;
  for (let i = 0; i < places.length; i++) {
    const away = Math.abs(places[i] - x);
    if (away < distance) { best = i; distance = away; }
  }
  return best;
}

function clicked(event) {
  const { x, y, py, perPixel } = placeOf(event);
  if (py < MARKS) {
    const isPreemption = py < MARKS / 2;
    const mark = markAt(marks[isPreemption ? 0 : 1], x, perPixel);
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
  placeAll();
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
  placeAll();
  [view.x0, view.x1] = range();
  listen();
  showOverview();
  document.body.dataset.state = "ready";
}

start().catch((error) => {
  showPanel("This page cannot be shown", element("p", `${error}: open it in a browser of 2023 or later.`));
  console.error(error);
});
