// A job's graph: vertices in columns from the sources on, edges as curves.

const NODE = { width: 230, height: 112, right: 96, down: 24, margin: 18 };

/** The column and row of each vertex: as far from the sources as its longest way. */
function arrange(nodes) {
  const columns = [];
  const column = new Map();
  for (const node of nodes) {
    const behind = (node.inputs || []).map((input) => (column.get(input.id) ?? -1) + 1);
    const own = Math.max(0, ...behind);
    column.set(node.id, own);
    (columns[own] ||= []).push(node.id);
  }
  const tallest = Math.max(...columns.map((ids) => ids.length), 1);
  const places = new Map();
  columns.forEach((ids, x) => ids.forEach((id, y) => places.set(id, {
    x: NODE.margin + x * (NODE.width + NODE.right),
    y: NODE.margin + (y + (tallest - ids.length) / 2) * (NODE.height + NODE.down),
  })));
  return {
    places,
    width: 2 * NODE.margin + columns.length * (NODE.width + NODE.right) - NODE.right,
    height: 2 * NODE.margin + tallest * (NODE.height + NODE.down) - NODE.down,
  };
}

function drawPlan(job, rates, choose) {
  const { places, width, height } = arrange(job.plan.nodes);
  const vertices = new Map(job.vertices.map((vertex) => [vertex.id, vertex]));
  const edges = job.plan.nodes.flatMap((node) => (node.inputs || []).map((input) => edge(places.get(input.id), places.get(node.id), input.ship_strategy)));
  const arrow = h('defs', {}, h('marker', { id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto' }, h('path', { d: 'M 0 0 L 8 4 L 0 8 z' })));
  const boxes = job.plan.nodes.map((node) => box(job, vertices.get(node.id), node, places.get(node.id), rates, choose));
  return h('div', { class: 'plan', style: { width: width + 'px', height: height + 'px' } },
    h('svg', { width, height, 'aria-hidden': 'true' }, arrow, edges), boxes);
}

function edge(from, to, strategy) {
  if (!from || !to) return null;
  const [x1, y1, x2, y2] = [from.x + NODE.width, from.y + NODE.height / 2, to.x - 2, to.y + NODE.height / 2];
  const bend = (x2 - x1) / 2;
  return [h('path', { d: `M ${x1} ${y1} C ${x1 + bend} ${y1}, ${x2 - bend} ${y2}, ${x2} ${y2}`, 'marker-end': 'url(#arrow)' }),
    h('text', { x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 7 }, strategy || '')];
}

function box(job, vertex, node, place, rates, choose) {
  const name = vertex ? vertex.name : node.id;
  const status = vertex ? vertex.status : 'CREATED';
  const busy = rate(rates, node.id, 'busyTimeMsPerSecond', 'avg');
  const pressed = rate(rates, node.id, 'backPressuredTimeMsPerSecond', 'avg');
  const out = rate(rates, node.id, 'numRecordsOutPerSecond');
  const load = busy === undefined ? null : meter([[busy / 1000, 'work'], [pressed / 1000, 'wait']],
    `busy ${percent(busy / 1000)}, back-pressured ${percent(pressed / 1000)}`);
  return h('button', {
    class: 'node ' + kind(status) + (picked.get(job.jid) === node.id ? ' picked' : ''), title: name, 'data-key': 'n' + node.id,
    style: { left: place.x + 'px', top: place.y + 'px', height: NODE.height + 'px' }, onclick: () => choose(node.id),
  }, h('strong', {}, name),
  h('div', { class: 'load small' }, h('span', { class: 'quiet' }, node.parallelism + (node.parallelism === 1 ? ' task' : ' tasks') + ', ' + status.toLowerCase()), h('span', {}, out === undefined ? '' : count(out) + ' /s')),
  load);
}

const legend = () => h('div', { class: 'legend' }, h('span', {}, h('i'), 'busy'), h('span', {}, h('i', { class: 'wait' }), 'waits for consumers'), h('span', {}, h('i', { class: 'idle' }), 'waits for input'));
