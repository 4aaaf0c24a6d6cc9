"use strict";
// The data, and where it lies: columns of numbers, iterations, times.

const content = JSON.parse(document.getElementById("data").textContent);
const pool = content.pool, byId = (id) => document.getElementById(id);
const LEFT = 66, BOTTOM = 22, MARKS = 26; // pixels around the image: block numbers, times, marks of events
const CACHED = 2, NONE = -1;
const gap = pool.num_host_blocks ? Math.ceil(pool.num_blocks / 40) : 0;
const numRows = pool.num_blocks + gap + pool.num_host_blocks;
let columns, times, edges, marks, requestRow, colours, tints = {};
let view = { x0: 0, x1: 1, y0: 0, y1: numRows }, mode = "owner", axis = "time";
let chosen = new Map(), cursorX = null, chosenPreemption = NONE, chosenEviction = NONE;

async function decoded({ kind, is_delta, data }) {
  const packed = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const Kind = { u1: Uint8Array, u2: Uint16Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, f4: Float32Array }[kind];
  const values = new Kind(buffer);
  if (!is_delta) return values;
  const sums = new Float64Array(values.length);
  for (let i = 0, sum = 0; i < values.length; i++) sums[i] = sum += values[i];
  return sums;
}

async function load() {
  const names = Object.keys(content.columns);
  const arrays = await Promise.all(names.map((name) => decoded(content.columns[name])));
  columns = Object.fromEntries(names.map((name, i) => [name, arrays[i]]));
  requestRow = new Map(Array.from(columns.request_id, (id, row) => [id, row]));
}

/** The last index whose value is at most `value`, of values in order. */
function before(values, value) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}

function translated(value, from, to) {
  const i = Math.min(before(from, value), from.length - 2);
  const share = (value - from[i]) / (from[i + 1] - from[i] || 1);
  return to[i] + share * (to[i + 1] - to[i]);
}

const secondsAt = (step) => translated(step, columns.step_number, columns.step_micros) / 1e6;
const stepAt = (x) => axis === "step" ? x : translated(x * 1e6, columns.step_micros, columns.step_number);
const xOfStep = (step) => axis === "step" ? step : secondsAt(step);
const range = () => axis === "step" ? [0, pool.num_steps] : [secondsAt(0), secondsAt(pool.num_steps)];

/** Seconds of every boundary, from those of some. */
function spread(micros) {
  const number = columns.step_number, all = new Float64Array(pool.num_steps + 1);
  for (let i = 0; i + 1 < number.length; i++) {
    const length = number[i + 1] - number[i];
    for (let k = 0; k <= length; k++) all[number[i] + k] = (micros[i] + (k / length) * (micros[i + 1] - micros[i])) / 1e6;
  }
  return all;
}

/** The places of rectangles and events on the axis. While the engine is idle, no request owns a block. */
function placeAll() {
  const steps = [columns.preemption_step, columns.eviction_step];
  marks = axis === "step" ? steps : steps.map((column) => Float64Array.from(column, secondsAt));
  const { rect_start: starts, rect_end: ends, rect_state: states } = columns;
  if (axis === "step") { edges = [starts, ends]; return; }
  times ??= [spread(columns.step_micros), spread(columns.step_ended_micros)];
  const [begun, ended] = times;
  edges = [Float64Array.from(starts, (step, i) => (states[i] === CACHED ? ended : begun)[step]),
    Float64Array.from(ends, (step, i) => (states[i] === CACHED ? begun : ended)[step])];
}

const rowOf = (i) => columns.rect_block[i] + (columns.rect_tier[i] ? pool.num_blocks + gap : 0);
