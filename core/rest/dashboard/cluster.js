// The pages of the cluster, of TaskManagers and of the JobManager.

async function loadOverview() {
  const [overview, { jobs }] = await Promise.all([get('/overview'), get('/jobs/overview')]);
  return { overview, jobs };
}

function viewOverview({ overview, jobs }) {
  const used = overview['slots-total'] - overview['slots-available'];
  const row = (job) => ({
    cells: [h('a', { href: '#/job/' + job.jid, 'data-key': job.jid }, job.name), state(job.state), tasks(job.tasks), time(job['start-time']), duration(job.duration), h('span', { class: 'mono quiet' }, job.jid.slice(0, 8))],
  });
  const heads = ['Job', 'State', 'Tasks', 'Started', '#Duration', '#Id'];
  const newest = [...jobs].sort((a, b) => b['start-time'] - a['start-time']);
  return [
    h('div', { class: 'tiles' },
      tile(overview['jobs-running'], 'jobs running'), tile(overview['jobs-finished'], 'finished'), tile(overview['jobs-cancelled'], 'canceled'), tile(overview['jobs-failed'], 'failed'),
      tile(overview.taskmanagers, overview.taskmanagers === 1 ? 'TaskManager' : 'TaskManagers'),
      tile(used + ' / ' + overview['slots-total'], 'slots in use', meter([[overview['slots-total'] ? used / overview['slots-total'] : 0, '']], 'slots in use'))),
    h('h2', {}, 'Running jobs'),
    table(heads, newest.filter((job) => !ended(job.state)).map(row), 'No job is running. Start one with: weir run -t remote PROGRAM', 'jobs'),
    h('h2', {}, 'Ended jobs'),
    table(heads, newest.filter((job) => ended(job.state)).map(row), 'No job has ended yet.', 'jobs'),
  ];
}

const loadTaskManagers = async () => (await get('/taskmanagers')).taskmanagers;

function viewTaskManagers(all) {
  const rows = all.map((one) => ({
    cells: [h('a', { href: '#/taskmanagers/' + encodeURIComponent(one.id), 'data-key': one.id }, one.id), hostOf(one), one.provider || 'by hand',
      slots(one), String(one.assignedTasks), String(one.hardware.cpuCores), bytes(one.memoryConfiguration.totalProcessMemory), h('span', { class: 'quiet' }, time(one.timeSinceLastHeartbeat))],
  }));
  return [h('div', { class: 'title' }, h('h1', {}, 'TaskManagers')),
    table(['TaskManager', 'Host', 'Started by', 'Slots in use', '#Tasks', '#Cores', '#Memory', '#Last heartbeat'], rows, 'No TaskManager has registered. Start one with: weir taskmanager')];
}

function slots(one) {
  const used = one.slotsNumber - one.freeSlots;
  return h('div', { class: 'tasks' }, meter([[used / one.slotsNumber, '']], used + ' of ' + one.slotsNumber), h('span', {}, used + ' / ' + one.slotsNumber));
}

const openFiles = new Map();

async function loadTaskManager(id) {
  const base = '/taskmanagers/' + encodeURIComponent(id);
  const one = await get(base);
  return { one, base, ...await loadFiles(base) };
}

async function loadFiles(base) {
  const { logs } = await get(base + '/logs').catch(() => ({ logs: [] }));
  const name = openFiles.get(base);
  const load = name === 'thread-dump' ? get(base + '/thread-dump').then(dump) : name && getText(base + '/logs/' + encodeURIComponent(name) + '?offset=-' + LAST);
  const text = name ? await load.catch((failure) => failure.message) : null;
  return { logs, file: name, text };
}
const dump = ({ threadInfos }) => threadInfos.map((thread) => thread.threadName + '\n    ' + thread.stringifiedThreadInfo.trimEnd().replaceAll('\n', '\n    ')).join('\n\n');
/** Bytes of a file that are shown: its end. */
const LAST = 200000;
const hostOf = (one) => one.path.split('/')[2];

function viewTaskManager({ one, base, logs, file, text }) {
  const memory = one.metrics;
  const jobs = new Map();
  for (const slot of one.allocatedSlots) jobs.set(slot.jobId, [...(jobs.get(slot.jobId) || []), slot]);
  const rows = [...jobs].map(([id, held]) => ({ cells: [h('a', { href: '#/job/' + id }, h('span', { class: 'mono' }, id)), String(held.length), String(held.reduce((sum, slot) => sum + slot.assignedTasks, 0))] }));
  return [
    h('div', { class: 'title' }, h('div', {}, h('h1', {}, one.id), h('div', { class: 'facts' }, h('span', {}, 'on ' + hostOf(one)), h('span', {}, one.provider ? 'started by ' + one.provider : 'started by hand'), h('span', {}, 'last heartbeat ' + time(one.timeSinceLastHeartbeat))))),
    h('div', { class: 'tiles' }, tile(one.slotsNumber - one.freeSlots + ' / ' + one.slotsNumber, 'slots in use'), tile(one.assignedTasks, 'tasks'), tile(bytes(memory.heapUsed), 'memory of the process'),
      tile(bytes(one.memoryConfiguration.totalProcessMemory), 'memory for workers'), tile(one.hardware.cpuCores, 'cores'), tile(bytes(one.hardware.physicalMemory), 'memory of the machine')),
    h('h2', {}, 'Jobs with slots here'),
    table(['Job', '#Slots', '#Tasks'], rows, 'All slots are free.'),
    filesView(base, logs, file, text),
  ];
}

function filesView(base, logs, file, text) {
  const show = (name) => () => { if (openFiles.get(base) === name) openFiles.delete(base); else openFiles.set(base, name); redraw(); };
  const link = (name, label) => h('a', { href: location.hash, onclick: (event) => { event.preventDefault(); show(name)(); }, 'data-key': 'f' + name }, label);
  const rows = logs.map((log) => ({ class: file === log.name ? 'picked' : null, cells: [link(log.name, log.name), bytes(log.size), time(log.mtime)] }));
  return [
    h('h2', {}, 'Logs'), table(['File', '#Size', '#Last written'], rows, 'There are no log files.'),
    h('p', {}, link('thread-dump', file === 'thread-dump' ? 'Hide stacks' : 'Show what its threads are doing')),
    text !== null && h('pre', { 'data-scroll': 'file', class: 'mono' }, text || '(empty)'),
  ];
}

async function loadJobManager() {
  const [config, environment, files] = await Promise.all([get('/jobmanager/config'), get('/jobmanager/environment'), loadFiles('/jobmanager')]);
  return { config, environment, ...files };
}

function viewJobManager({ config, environment, logs, file, text }) {
  return [
    h('div', { class: 'title' }, h('div', {}, h('h1', {}, 'JobManager'), h('div', { class: 'facts' }, h('span', {}, environment.jvm.version), h('span', {}, environment.jvm.arch), environment.jvm.options.map((option) => h('span', { class: 'mono' }, option))))),
    filesView('/jobmanager', logs, file, text),
    h('h2', {}, 'Configuration'),
    table(['Option', 'Value'], config.map(({ key, value }) => ({ cells: [h('code', {}, key), h('code', {}, value)] })), 'Nothing is configured.'),
  ];
}

pages.push(
  { name: 'taskmanagers', path: /^#\/taskmanagers$/, load: loadTaskManagers, view: viewTaskManagers, title: () => 'TaskManagers' },
  { name: 'taskmanagers', path: /^#\/taskmanagers\/(.+)$/, load: loadTaskManager, view: viewTaskManager, title: ({ one }) => one.id },
  { name: 'jobmanager', path: /^#\/jobmanager$/, load: loadJobManager, view: viewJobManager, title: () => 'JobManager' },
);
pages.unshift({ name: 'overview', path: /^#\/?$/, load: loadOverview, view: viewOverview, title: () => 'Jobs' });
refresh(true);
