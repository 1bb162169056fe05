'use strict';
// What all pages share: elements, requests, numbers, and the loop that keeps a page up to date.

const $ = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';

/** An element; texts are always set as text, so no name of a job can bring markup along. */
function h(tag, attributes, ...children) {
  const vector = ['svg', 'path', 'text', 'defs', 'marker'].includes(tag);
  const element = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style') Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

class Failure extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function request(path, options) {
  const token = sessionStorage.getItem('weir-token');
  const headers = token ? { Authorization: 'Bearer ' + token } : {};
  let response;
  try {
    response = await fetch('.' + path, { cache: 'no-store', ...options, headers });
  } catch {
    throw new Failure(0, 'The JobManager does not answer.');
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Failure(response.status, body?.errors?.[0] || 'The JobManager answered ' + response.status + '.');
  }
  return response;
}
const get = async (path) => (await request(path)).json();
const getText = async (path) => (await request(path)).text();

function duration(millis) {
  if (millis < 0) return '–';
  if (millis < 1000) return millis + ' ms';
  const seconds = Math.floor(millis / 1000);
  const parts = [[Math.floor(seconds / 86400), 'd'], [Math.floor(seconds / 3600) % 24, 'h'], [Math.floor(seconds / 60) % 60, 'min'], [seconds % 60, 's']];
  const first = parts.findIndex(([count]) => count > 0);
  return parts.slice(first, first + 2).filter(([count]) => count > 0).map(([count, unit]) => count + ' ' + unit).join(' ');
}
const time = (millis) => millis > 0 ? new Date(millis).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' }) : '–';
function scaled(value, step, units) {
  let unit = 0;
  while (Math.abs(value) >= step && unit < units.length - 1) { value /= step; unit += 1; }
  const digits = unit === 0 ? (value % 1 && value < 100 ? 1 : 0) : value < 10 ? 2 : value < 100 ? 1 : 0;
  return value.toFixed(digits) + units[unit];
}
const count = (value) => Math.abs(value) < 1e4 ? value.toLocaleString('en', { maximumFractionDigits: value < 100 ? 1 : 0 }) : scaled(value, 1000, ['', ' k', ' M', ' G', ' T']);
const bytes = (value) => scaled(value, 1024, [' B', ' KiB', ' MiB', ' GiB', ' TiB']);
const percent = (share) => Math.round(share * 100) + ' %';

const KINDS = {
  RUNNING: 'good', FINISHED: 'done', FAILED: 'bad', FAILING: 'bad', CANCELED: 'gone', CANCELLING: 'wait', CANCELING: 'wait',
  RESTARTING: 'wait', CREATED: 'wait', INITIALIZING: 'wait', SCHEDULED: 'wait', DEPLOYING: 'wait', RECONCILING: 'wait', SUSPENDED: 'gone',
  COMPLETED: 'good', IN_PROGRESS: 'wait',
};
const kind = (state) => KINDS[state] || 'gone';
const state = (name) => h('span', { class: 'state ' + kind(name) }, name);
const ended = (name) => ['FINISHED', 'FAILED', 'CANCELED'].includes(name);

/** A bar of parts: pairs of a share from 0 to 1 and a class. */
const meter = (parts, label) => h('div', { class: 'meter', role: 'img', 'aria-label': label, title: label },
  parts.map(([share, name]) => share > 0 && h('i', { class: name, style: { width: 100 * Math.min(share, 1) + '%' } })));

/** Numbers of tasks by state, as a bar and a total. */
function tasks(counts) {
  const entries = Object.entries(counts).map(([name, n]) => [name.toUpperCase(), n]).filter(([name, n]) => n > 0 && name !== 'TOTAL');
  const total = entries.reduce((sum, [, n]) => sum + n, 0);
  const words = entries.map(([name, n]) => n + ' ' + name.toLowerCase()).join(', ');
  return h('div', { class: 'tasks' }, meter(entries.map(([name, n]) => [n / total, kind(name)]), words || 'no tasks'), h('span', {}, String(total)));
}

function table(heads, rows, nothing, name) {
  const cell = (tag, value, i) => h(tag, { class: heads[i].startsWith('#') ? 'num' : i === 0 ? 'name' : null, scope: tag === 'th' && 'col' }, value);
  const head = h('thead', {}, h('tr', {}, heads.map((text, i) => cell('th', text.replace(/^#/, ''), i))));
  const body = rows.map(({ cells, ...attributes }) => h('tr', attributes, cells.map((value, i) => cell('td', value, i))));
  if (!rows.length) return h('div', { class: 'frame' }, h('div', { class: 'empty' }, nothing));
  return h('div', { class: 'frame' }, h('table', { class: name }, head, h('tbody', {}, body)));
}
const tile = (value, label, extra) => h('div', { class: 'tile' }, h('b', {}, String(value)), h('span', {}, label), extra);

/** A part that folds and remembers whether it is open when the page is drawn anew. */
const opened = new Map();
function fold(key, open, summary, ...content) {
  const isOpen = opened.has(key) ? opened.get(key) : open;
  const element = h('details', { open: isOpen }, h('summary', {}, summary), ...content);
  element.addEventListener('toggle', () => opened.set(key, element.open));
  return element;
}

const settings = { interval: 3000, features: {}, version: null };
const pages = [];
let timer = null;
let shown = '';
let drawing = 0;

/** Draws the page of the address now, and again after the refresh interval. */
async function refresh(moved) {
  clearTimeout(timer);
  const mine = ++drawing;
  const address = location.hash || '#/';
  try {
    if (!settings.version) await configure();
    const [page, match] = pages.map((page) => [page, address.match(page.path)]).find(([, match]) => match) || [pages[0], []];
    const data = await page.load(...match.slice(1).map(decodeURIComponent));
    if (mine !== drawing) return;
    live();
    draw(page, data, address, moved);
  } catch (failure) {
    if (mine !== drawing) return;
    if (failure.status === 401) return askForToken(failure.message);
    trouble(failure, moved);
  }
  if (!document.hidden) timer = setTimeout(refresh, settings.interval);
}

function draw(page, data, address, moved) {
  const text = address + JSON.stringify(data);
  // Nothing is drawn under a selection, or it would be lost.
  if (!moved && (text === shown || !getSelection().isCollapsed)) return;
  shown = text;
  document.querySelectorAll('nav a').forEach((link) => {
    if (link.dataset.page === page.name) link.setAttribute('aria-current', 'page'); else link.removeAttribute('aria-current');
  });
  const scrolled = [...document.querySelectorAll('[data-scroll]')].map((element) => [element.dataset.scroll, element.scrollLeft, element.scrollTop]);
  const focused = document.activeElement?.dataset?.key;
  document.title = page.title(data) + ' · Weir';
  $('main').replaceChildren(...[page.view(data)].flat(Infinity).filter(Boolean));
  scrolled.forEach(([key, left, top]) => {
    const element = document.querySelector('[data-scroll="' + CSS.escape(key) + '"]');
    if (element) { element.scrollLeft = left; element.scrollTop = top; }
  });
  if (moved) { scrollTo(0, 0); $('main').focus({ preventScroll: true }); }
  else if (focused) document.querySelector('[data-key="' + CSS.escape(focused) + '"]')?.focus({ preventScroll: true });
}

async function configure() {
  const config = await get('/config');
  settings.interval = Math.max(500, config['refresh-interval']);
  settings.features = config.features;
  settings.version = config['flink-version'];
  $('version').textContent = settings.version + ' · ' + config['flink-revision'].slice(0, 8);
}

function live() {
  $('trouble').hidden = true;
  $('pulse').className = 'pulse live';
  $('pulse').textContent = 'live';
}

function trouble(failure, moved) {
  const lost = failure.status === 0 || failure.status === 503;
  $('pulse').className = 'pulse lost';
  $('pulse').textContent = lost ? 'trying again' : 'error';
  $('trouble').textContent = failure.message;
  $('trouble').hidden = false;
  if (moved) { shown = ''; $('main').replaceChildren(h('p', {}, h('a', { href: '#/' }, 'Back to the jobs'))); }
}

function askForToken(message) {
  shown = '';
  $('pulse').className = 'pulse';
  $('pulse').textContent = 'locked';
  const known = sessionStorage.getItem('weir-token') !== null;
  const input = h('input', { type: 'password', name: 'token', autocomplete: 'current-password', required: true, 'aria-label': 'Token' });
  const enter = (event) => {
    event.preventDefault();
    sessionStorage.setItem('weir-token', input.value.trim());
    refresh(true);
  };
  $('main').replaceChildren(h('form', { onsubmit: enter },
    h('h1', {}, 'This cluster asks for a token'),
    h('div', { class: 'quiet' }, known ? message : 'It is the value of security.rest.token in the cluster’s configuration. This page keeps it until the tab is closed.'),
    input, h('button', {}, 'Open')));
  input.focus();
}

addEventListener('hashchange', () => refresh(true));
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh(); });
