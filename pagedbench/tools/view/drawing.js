// What is drawn. Every pixel of the pool shows the rectangle that lies at its centre.

// Colours

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
const pixel = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const css = ([r, g, b]) => `rgb(${r},${g},${b})`;
const mixed = (one, other, share) => one.map((value, i) => Math.round(value + share * (other[i] - value)));

function rgb(text) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function prepareColours() {
  const free = rgb(style("--free")), dark = isDark();
  const owners = Array.from({ length: 256 }, (_, i) =>
    rgb(`hsl(${(i * 137.508) % 360} ${[62, 48, 75][i % 3]}% ${(dark ? [62, 50, 42] : [52, 66, 42])[(i >> 1) % 3]}%)`));
  const named = {
    owned: rgb(dark ? "#4d8df7" : "#3b7de0"), shared: rgb(dark ? "#b78cf7" : "#8a56d8"),
    cached: rgb(dark ? "#b98a2f" : "#e3b34f"), device: rgb(dark ? "#4d8df7" : "#3b7de0"),
    host: rgb(dark ? "#35b39b" : "#1f9d87"), tokens: rgb(dark ? "#4d8df7" : "#3b7de0"),
    reserved: rgb(dark ? "#2f4f80" : "#b5d0f5"), waste: rgb(dark ? "#e2604f" : "#e2725f"),
  };
  colours = { free, owners, named, victim: rgb(style("--bad")), cause: rgb(style("--accent")) };
}

/** A pixel for each rectangle, found once for a mode and a choice of requests. */
function findTints() {
  if (tints.mode === mode && tints.chosen === chosen && tints.colours === colours) return tints.pixels;
  const { rect_owner: owners, rect_state: states, rect_tier: tiers } = columns;
  const pixels = new Uint32Array(owners.length), known = new Map();
  for (let i = 0; i < owners.length; i++) {
    const key = chosen.has(owners[i]) || owners[i] === NONE ? `${owners[i]} ${states[i]}` : (owners[i] & 255) << 3 | states[i] << 1 | tiers[i];
    let found = known.get(key);
    if (found === undefined) known.set(key, found = pixel(colourOf(i)));
    pixels[i] = found;
  }
  tints = { mode, chosen, colours, pixels };
  return pixels;
}

function colourOf(i) {
  const owner = columns.rect_owner[i], state = columns.rect_state[i];
  const { free, owners, named } = colours;
  let colour;
  if (mode === "state") colour = [named.owned, named.shared, named.cached][state];
  else if (mode === "tier") colour = columns.rect_tier[i] ? named.host : named.device;
  else if (mode === "part") colour = state === CACHED ? named.cached : named.tokens;
  else {
    colour = owner === NONE ? named.cached : owners[owner & 255];
    if (state === CACHED) colour = mixed(colour, free, 0.65);
  }
  if (!chosen.size) return colour;
  const role = chosen.get(owner);
  if (role === undefined) return mixed(colour, free, 0.8);
  return state === CACHED ? mixed(colours[role], free, 0.5) : colours[role];
}

const LEGENDS = {
  owner: [["many", "one colour per request"], ["pale", "pale: idle, kept in the prefix cache"]],
  state: [["owned", "owned by one sequence"], ["shared", "shared"], ["cached", "idle, kept in the prefix cache"]],
  tier: [["device", "device"], ["host", "host"]],
  part: [["tokens", "token states"], ["reserved", "reserved"], ["waste", "internal: never used"], ["cached", "idle, kept"]],
};

const swatches = { many: "linear-gradient(90deg, #e5484d, #f2b34f, #3fae6a, #3b7de0, #8a56d8)",
  pale: "linear-gradient(90deg, #f0b9bb, #f6dcb2, #b5dcc3, #b3cbf1, #d0bdec)" };

function drawLegend() {
  const hasCached = columns.rect_state.includes(CACHED);
  const named = LEGENDS[mode].filter(([name]) => hasCached || !["cached", "pale"].includes(name));
  const entries = named.map(([name, text]) => [swatches[name] ?? css(colours.named[name]), text]);
  entries.push([css(colours.free), "free"]);
  if ([...chosen.values()].includes("victim")) entries.push([css(colours.victim), "who lost"]);
  if ([...chosen.values()].includes("cause")) entries.push([css(colours.cause), "who needed room, or was searched"]);
  byId("legend").replaceChildren(...entries.map(([colour, text]) => {
    const item = element("span", text), swatch = document.createElement("i");
    swatch.style.background = colour;
    item.prepend(swatch);
    return item;
  }));
}

// Drawing

function sized(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2), box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "11px system-ui, sans-serif";
  return { pen, scale, width: box.width, height: box.height };
}

function drawPool() {
  const { pen, scale, width, height } = sized(byId("pool"));
  const w = Math.max(Math.floor((width - LEFT) * scale), 1), h = Math.max(Math.floor((height - BOTTOM - MARKS) * scale), 1);
  const image = new ImageData(w, h), pixels = new Uint32Array(image.data.buffer);
  pixels.fill(pixel(colours.free));
  const perX = w / (view.x1 - view.x0), perY = h / (view.y1 - view.y0);
  const [starts, ends] = edges, found = findTints(), { rect_height: heights } = columns;
  const column = (x) => Math.min(Math.max(Math.ceil((x - view.x0) * perX - 0.5), 0), w);
  const line = (y) => Math.min(Math.max(Math.ceil((y - view.y0) * perY - 0.5), 0), h);
  const fill = (left, right, top, bottom, value) => {
    for (let y = top; y < bottom; y++) pixels.fill(value, y * w + left, y * w + right);
  };
  const blank = pixel(mixed(colours.free, rgb(style("--paper")), 0.75));
  if (gap) fill(0, w, line(pool.num_blocks), line(pool.num_blocks + gap), blank);
  for (let i = 0; i < starts.length; i++) {
    if (ends[i] <= view.x0 || starts[i] >= view.x1) continue;
    const left = column(starts[i]), right = column(ends[i]), row = rowOf(i);
    const top = line(row), bottom = line(row + heights[i]);
    if (left >= right || top >= bottom) continue;
    fill(left, right, top, bottom, found[i]);
    if (mode === "part" && columns.rect_state[i] !== CACHED) fillParts(i, row, left, right, line, fill, perX);
  }
  pen.putImageData(image, Math.round(LEFT * scale), Math.round(MARKS * scale));
  drawAxes(pen, width, height);
  drawMarks(pen, width);
}

/** Slots that hold no token yet, and those that never will, lie below those that do. */
function fillParts(i, row, left, right, line, fill, perX) {
  const size = pool.block_size, height = columns.rect_height[i], usable = columns.rect_usable[i];
  const first = columns.rect_first_tokens[i], last = columns.rect_last_tokens[i];
  const dim = chosen.size && !chosen.has(columns.rect_owner[i]) ? 0.8 : 0;
  const reserved = pixel(mixed(colours.named.reserved, colours.free, dim));
  const bottom = line(row + height), never = line(row + usable / size);
  if (usable < size * height) fill(left, right, never, bottom, pixel(mixed(colours.named.waste, colours.free, dim)));
  if (first >= usable) return;
  for (let x = left; x < right; x++) {
    const step = stepAt(view.x0 + (x + 0.5) / perX);
    const tokens = Math.min(first + Math.floor(step - columns.rect_start[i]), last);
    fill(x, x + 1, line(row + tokens / size), never, reserved);
  }
}

function ticks(from, to, most) {
  const raw = (to - from) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) found.push(+value.toPrecision(12));
  return found;
}

function drawAxes(pen, width, height) {
  pen.fillStyle = style("--soft");
  const bottom = height - BOTTOM, xOf = (x) => LEFT + (x - view.x0) / (view.x1 - view.x0) * (width - LEFT);
  pen.textAlign = "center";
  for (const x of ticks(view.x0, view.x1, width / 110)) {
    pen.fillRect(xOf(x), bottom, 1, 4);
    pen.fillText(axis === "step" ? x.toLocaleString("en") : `${x} s`, Math.min(xOf(x), width - 22), height - 5);
  }
  pen.textAlign = "right";
  const most = (bottom - MARKS) / 34, tiers = [["", 0, pool.num_blocks], ["host ", pool.num_blocks + gap, numRows]];
  for (const [name, first, end] of tiers) {
    const [from, to] = [Math.max(view.y0, first), Math.min(view.y1, end)];
    if (to <= from) continue;
    for (const block of ticks(from - first, to - first, Math.max(most * (to - from) / (view.y1 - view.y0), 1))) {
      const top = MARKS + (first + block - view.y0) / (view.y1 - view.y0) * (bottom - MARKS);
      if (first + block < end) pen.fillText(`${name}${block}`, LEFT - 6, Math.max(top + 4, MARKS + 9));
    }
  }
  pen.fillText("preempted", LEFT - 4, 10);
  pen.fillText("evicted", LEFT - 4, 22);
}

function drawMarks(pen, width) {
  const xOf = (x) => LEFT + (x - view.x0) / (view.x1 - view.x0) * (width - LEFT);
  const rows = [[marks[0], "--bad", 2, chosenPreemption], [marks[1], "--evict", 14, chosenEviction]];
  for (const [places, colour, top, current] of rows) {
    pen.fillStyle = style(colour);
    drawTicks(places, xOf, width, (x) => pen.fillRect(x - 0.75, top, 1.5, 9));
    if (current === NONE) continue;
    const x = xOf(places[current]);
    if (x >= LEFT && x <= width) { pen.fillRect(x - 3, top, 6, 9); pen.fillRect(x - 0.5, top, 1, 9999); }
  }
}

/** A tick for each place, but not two for one pixel. */
function drawTicks(places, xOf, width, tick) {
  for (let i = 0, last = NONE; i < places.length; i++) {
    const x = xOf(places[i]);
    if (x < LEFT || x > width || x - last < 0.5) continue;
    tick(x);
    last = x;
  }
}

function drawTimeline() {
  const { pen, width, height } = sized(byId("timeline"));
  const [from, to] = range(), w = width - LEFT, base = height - 20;
  const xOf = (x) => LEFT + (x - from) / (to - from || 1) * w;
  const series = (name, most, colour, isArea) => {
    pen.beginPath();
    const values = columns[`step_${name}`];
    for (let i = 0; i < values.length; i++) {
      const x = xOf(axis === "step" ? columns.step_number[i] : columns.step_micros[i] / 1e6), y = base - values[i] / most * (base - 4);
      if (i && isArea) pen.lineTo(x, base - values[i - 1] / most * (base - 4));
      pen.lineTo(x, y);
    }
    if (isArea) { pen.lineTo(LEFT + w, base); pen.lineTo(LEFT, base); pen.fillStyle = colour; pen.fill(); }
    else { pen.strokeStyle = colour; pen.stroke(); }
  };
  const most = ["running", "waiting"].reduce((so, name) => columns[`step_${name}`].reduce((a, b) => Math.max(a, b), so), 1);
  series("running", most, css(colours.named.reserved), true);
  series("waiting", most, style("--soft"), false);
  for (const [places, colour] of [[marks[1], "--evict"], [marks[0], "--bad"]]) {
    pen.fillStyle = style(colour);
    drawTicks(places, xOf, width, (x) => pen.fillRect(x, base + 1, 1, 5));
  }
  pen.fillStyle = style("--soft");
  pen.textAlign = "right";
  pen.fillText(`${most} req.`, LEFT - 6, 12);
  pen.fillText("batch", LEFT - 6, 26);
  pen.textAlign = "left";
  pen.fillText("area: running requests; line: waiting; ticks: preemptions and evictions", LEFT + 4, height - 1);
  pen.strokeStyle = style("--accent");
  pen.strokeRect(xOf(view.x0), 1, Math.max(xOf(view.x1) - xOf(view.x0), 2), base - 1);
  if (cursorX !== null) { pen.fillStyle = style("--ink"); pen.fillRect(xOf(cursorX), 0, 1, base); }
}

let isDue = false;
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => { isDue = false; drawPool(); drawTimeline(); drawLegend(); });
}
