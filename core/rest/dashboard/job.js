// The page of a job.

const RATES = ['numRecordsInPerSecond', 'numRecordsOutPerSecond', 'busyTimeMsPerSecond', 'backPressuredTimeMsPerSecond', 'currentOutputWatermark', 'stateBytes', 'stateKeys'];
const picked = new Map();
const histories = new Map();
let cancelling = null;

async function loadJob(id) {
  const [job, exceptions] = await Promise.all([get('/jobs/' + id), get('/jobs/' + id + '/exceptions?maxExceptions=20')]);
  // A job that takes none answers 404.
  const loadCheckpoints = get('/jobs/' + id + '/checkpoints').catch(() => null);
  const [rates, wait, subtasks, checkpoints] = await Promise.all([loadRates(job), job['slot-wait'] && get('/jobs/' + id + '/slot-wait'), loadSubtasks(job), loadCheckpoints]);
  remember(job, rates);
  return { job, exceptions, rates, wait, subtasks, checkpoints };
}

async function loadRates(job) {
  if (ended(job.state)) return {};
  const one = async (vertex) => {
    const answer = await get('/jobs/' + job.jid + '/vertices/' + vertex.id + '/subtasks/metrics?get=' + RATES.join(',')).catch(() => []);
    return [vertex.id, Object.fromEntries(answer.map((metric) => [metric.id, metric]))];
  };
  return Object.fromEntries(await Promise.all(job.vertices.map(one)));
}

async function loadSubtasks(job) {
  const vertex = picked.get(job.jid);
  return vertex ? get('/jobs/' + job.jid + '/vertices/' + vertex).catch(() => null) : null;
}

const sources = (job) => job.plan.nodes.filter((node) => !node.inputs?.length).map((node) => node.id);
const rate = (rates, vertex, name, part = 'sum') => rates[vertex]?.[name]?.[part];

/** What the sources read, a point at each refresh. */
function remember(job, rates) {
  const points = histories.get(job.jid) || [];
  const now = sources(job).map((id) => rate(rates, id, 'numRecordsInPerSecond')).filter((value) => value !== undefined);
  if (now.length) points.push(now.reduce((sum, value) => sum + value, 0));
  histories.set(job.jid, points.slice(-120));
}

function viewJob({ job, exceptions, rates, wait, subtasks, checkpoints }) {
  const failures = exceptions.exceptionHistory;
  return [
    jobTitle(job),
    wait && wait.waiting && slotWait(wait),
    job.state !== 'RUNNING' && failures.entries.length > 0 && h('div', { class: 'notice bad' }, h('b', {}, failures.entries[0].exceptionName), failures.entries[0].stacktrace.split('\n')[0].slice(failures.entries[0].exceptionName.length + 2)),
    h('div', { class: 'split' }, flow(job), jobFacts(job)),
    h('h2', {}, 'Plan'),
    h('div', { class: 'frame', 'data-scroll': 'plan' }, drawPlan(job, rates, pick(job)), legend()),
    h('h2', {}, 'Vertices'),
    vertexTable(job, rates),
    subtasks && subtaskTable(subtasks),
    checkpoints && checkpointTable(checkpoints),
    h('h2', {}, 'Failures'),
    failureList(failures),
  ];
}

function jobTitle(job) {
  const facts = [state(job.state), h('span', { class: 'mono' }, job.jid), h('span', {}, 'started ' + time(job['start-time'])), h('span', {}, 'for ' + duration(job.duration)), h('span', {}, job['job-type'] === 'BATCH' ? 'bounded input' : 'unbounded input')];
  if (job.restarts) facts.push(h('span', {}, 'restarted ' + job.restarts + (job.restarts === 1 ? ' time' : ' times')));
  return h('div', { class: 'title' }, h('div', {}, h('h1', {}, job.name), h('div', { class: 'facts' }, facts)), h('span', { class: 'grow' }), cancelButton(job));
}

function cancelButton(job) {
  if (ended(job.state) || !settings.features['web-cancel']) return null;
  const sure = cancelling === job.jid;
  const act = async (event) => {
    if (!sure) { cancelling = job.jid; return redraw(); }
    event.target.disabled = true;
    cancelling = null;
    try { await request('/jobs/' + job.jid + '?mode=cancel', { method: 'PATCH' }); } catch (failure) { trouble(failure); return; }
    redraw();
  };
  const leave = () => { if (sure) { cancelling = null; redraw(); } };
  const busy = job.state === 'CANCELLING';
  return h('span', {},
    sure && h('button', { onclick: leave, 'data-key': 'keep' }, 'Keep running'), ' ',
    h('button', { class: 'danger' + (sure ? ' sure' : ''), onclick: act, disabled: busy, 'data-key': 'cancel' }, busy ? 'Canceling' : sure ? 'Cancel now' : 'Cancel job'));
}
const redraw = () => { shown = ''; refresh(); };

function slotWait(wait) {
  const asked = wait.providers.filter((provider) => provider['last-failure']).map((provider) => provider.name + ': ' + provider['last-failure']);
  const lines = [...wait.reasons, ...asked];
  return h('div', { class: 'notice' + (wait.never ? ' bad' : '') },
    h('b', {}, wait.never ? 'This job can never get its slots' : 'Waiting for slots'),
    wait.never && h('div', {}, wait.never),
    `It needs ${wait.needed} and has ${wait.granted}. Free in the cluster: ${wait.available}. On their way: ${wait.pending}.`,
    lines.length > 0 && h('ul', {}, lines.map((line) => h('li', {}, line))));
}

function flow(job) {
  const points = histories.get(job.jid) || [];
  const now = points.at(-1);
  const top = Math.max(...points, 1);
  const at = (value, i) => (points.length > 1 ? 300 * i / (points.length - 1) : 300).toFixed(1) + ' ' + (58 - 54 * value / top).toFixed(1);
  const curve = points.map(at).join(' L ');
  const picture = points.length > 1 && h('svg', { viewBox: '0 0 300 60', preserveAspectRatio: 'none', role: 'img', 'aria-label': 'Records a second since this page was opened' },
    h('path', { class: 'area', d: 'M 0 60 L ' + curve + ' L 300 60 Z' }), h('path', { class: 'curve', d: 'M ' + curve }));
  return h('div', { class: 'frame flow' }, h('span', { class: 'quiet small' }, 'Records a second read by sources'), h('br'),
    h('b', {}, now === undefined || ended(job.state) ? '–' : count(now)), picture);
}

function jobFacts(job) {
  const total = (field) => job.vertices.reduce((sum, vertex) => sum + vertex.metrics[field], 0);
  const read = job.vertices.filter((vertex) => sources(job).includes(vertex.id)).reduce((sum, vertex) => sum + vertex.metrics['read-records'], 0);
  const running = job.vertices.reduce((sum, vertex) => sum + vertex.tasks.RUNNING, 0);
  const all = job.vertices.reduce((sum, vertex) => sum + vertex.parallelism, 0);
  return h('div', { class: 'tiles' }, tile(running + ' / ' + all, 'tasks running'), tile(count(read), 'records read'),
    tile(bytes(total('write-bytes')), 'sent between workers'));
}

const pick = (job) => (id) => {
  if (picked.get(job.jid) === id) picked.delete(job.jid); else picked.set(job.jid, id);
  redraw();
};

/** How far event time has come in the slowest task of a vertex. */
function watermark(value) {
  if (value < -9e18) return '–';
  return value > 9e18 ? 'end' : time(value);
}

/** The keyed state of a vertex. */
function held(rates, vertex) {
  const keys = rate(rates, vertex, 'stateKeys');
  return keys ? h('span', { title: count(keys) + ' keys' }, bytes(rate(rates, vertex, 'stateBytes'))) : '–';
}

/** How many there are, and of a job that adapts how many it was built with. */
const subtaskCount = ({ parallelism, builtParallelism: built }) => built && built !== parallelism ? parallelism + ' (built with ' + built + ')' : String(parallelism);

function vertexTable(job, rates) {
  const choose = pick(job);
  const cell = (value, form) => value === undefined ? '–' : form(value);
  const rows = job.vertices.map((vertex) => {
    const busiest = rate(rates, vertex.id, 'busyTimeMsPerSecond', 'max');
    const pressed = rate(rates, vertex.id, 'backPressuredTimeMsPerSecond', 'max');
    return {
      class: 'pick' + (picked.get(job.jid) === vertex.id ? ' picked' : ''), onclick: () => choose(vertex.id),
      cells: [h('a', { href: location.hash, onclick: (event) => event.preventDefault(), 'data-key': 'v' + vertex.id }, vertex.name), state(vertex.status), subtaskCount(vertex), tasks(vertex.tasks),
        cell(rate(rates, vertex.id, 'numRecordsInPerSecond'), count), cell(rate(rates, vertex.id, 'numRecordsOutPerSecond'), count),
        count(vertex.metrics['read-records']), count(vertex.metrics['write-records']),
        cell(busiest, (value) => percent(value / 1000)), cell(pressed, (value) => percent(value / 1000)),
        cell(rate(rates, vertex.id, 'currentOutputWatermark', 'min'), watermark), held(rates, vertex.id), duration(vertex.duration)],
    };
  });
  return table(['Vertex', 'State', '#Subtasks', 'Tasks', '#In /s', '#Out /s', '#Records in', '#Records out', '#Busiest', '#Back-pressured', '#Watermark', '#State size', '#Duration'], rows, 'The job is being set up.');
}

function subtaskTable(vertex) {
  const rows = vertex.subtasks.map((task) => ({
    cells: ['Subtask ' + task.subtask, state(task.status), task['taskmanager-id'].startsWith('(') ? '–' : h('a', { href: '#/taskmanagers/' + encodeURIComponent(task['taskmanager-id']) }, task['taskmanager-id']),
      String(task.attempt), count(task.metrics['read-records']), count(task.metrics['write-records']), duration(task.duration)],
  }));
  return [h('h2', {}, 'Subtasks of ' + vertex.name), table(['Subtask', 'State', 'TaskManager', '#Attempt', '#Records in', '#Records out', '#Duration'], rows, 'There are none yet.')];
}

function checkpointTable({ counts, history, latest }) {
  const kinds = { SAVEPOINT: 'Savepoint', SYNC_SAVEPOINT: 'Savepoint, then stop' };
  const place = (one) => one.failure_message || (one.discarded ? 'replaced by newer ones' : one.external_path?.includes(':') ? one.external_path : '');
  const rows = history.map((one) => ({
    cells: [(kinds[one.checkpoint_type] || 'Checkpoint') + ' ' + one.id, state(one.status), time(one.trigger_timestamp), one.num_acknowledged_subtasks + ' / ' + one.num_subtasks,
      duration(one.end_to_end_duration), bytes(one.checkpointed_size), bytes(one.state_size), h('span', { class: 'quiet small' }, place(one))],
  }));
  const restored = latest.restored && ', restored from ' + latest.restored.id + ' at ' + time(latest.restored.restore_timestamp);
  return [h('h2', {}, 'Checkpoints'),
    h('p', { class: 'quiet small' }, counts.completed + ' completed, ' + counts.failed + ' failed, ' + counts.in_progress + ' under way', restored),
    table(['Checkpoint', 'State', 'Triggered', '#Acknowledged', '#Duration', '#Written', '#State size', 'Where, or why not'], rows, 'None has been taken yet.')];
}

function failureList(history) {
  if (!history.entries.length) return h('div', { class: 'frame' }, h('div', { class: 'empty' }, 'Nothing has failed.'));
  const one = (entry, open) => fold('failure' + entry.timestamp + (entry.taskName || ''), open,
    [h('span', { class: 'state bad' }, entry.exceptionName), entry.taskName || 'the job', ' ', h('span', { class: 'quiet small' }, time(entry.timestamp) + (entry.taskManagerId ? ' on ' + entry.taskManagerId : ''))],
    h('pre', {}, entry.stacktrace), (entry.concurrentExceptions || []).map((other) => h('div', {}, one(other, false))));
  return h('div', { class: 'frame' }, history.entries.map((entry, i) => one(entry, i === 0)), history.truncated && h('div', { class: 'empty small' }, 'Older failures are not shown.'));
}

pages.push({ name: 'overview', path: /^#\/job\/([0-9a-f]+)$/, load: loadJob, view: viewJob, title: ({ job }) => job.name });
