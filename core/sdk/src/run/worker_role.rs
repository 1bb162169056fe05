//! The worker role: what a job's executable does when a driver starts it to run a share of the tasks.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, process, thread};

use weir_config::options;
use weir_dataflow::net::{JobToken, Network, NetworkOptions};
use weir_dataflow::plan::JobPlan;
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{JobVertex, Placement};
use weir_proto::worker::{self as proto, to_driver, to_worker};
use weir_proto::{job_graph_hash, read_frame, write_frame};

use super::arguments::Parsed;
use super::{Job, build_job, exit, protocol, terminal, usage};

/// Environment variables by which a driver tells a process to be a worker.
pub(super) mod variables {
    pub(crate) const SOCKET: &str = "WEIR_WORKER_SOCKET";
    pub(crate) const INDEX: &str = "WEIR_WORKER_INDEX";
    pub(crate) const TOKEN: &str = "WEIR_WORKER_TOKEN";
}

/// A worker's place in a run.
pub(super) struct Seat {
    socket: PathBuf,
    index: u32,
    token: JobToken,
}

impl Seat {
    /// The seat a driver prepared; `None` when this process was started by a person.
    pub(super) fn from_environment() -> Option<Seat> {
        let socket = PathBuf::from(env::var_os(variables::SOCKET)?);
        let index = env::var(variables::INDEX).ok()?.parse().ok()?;
        let token = token_from_hex(&env::var(variables::TOKEN).ok()?)?;
        for variable in [variables::SOCKET, variables::INDEX, variables::TOKEN] {
            // Processes that user code starts are not workers.
            // SAFETY: called first thing in `main`, while this is the only thread.
            unsafe { env::remove_var(variable) };
        }
        Some(Seat { socket, index, token })
    }
}

/// A token as text for the environment of a worker.
pub(super) fn token_to_hex(token: &JobToken) -> String {
    token.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token_from_hex(hex: &str) -> Option<JobToken> {
    let mut bytes = [0; JobToken::LEN];
    if hex.len() != 2 * JobToken::LEN || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(JobToken::from_bytes(bytes))
}

type WorkerResult<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs this process as a worker until its driver says that everything is done, or is gone.
pub(super) fn serve(job: &Job, parsed: &Parsed, seat: Seat) -> u8 {
    match try_serve(job, parsed, &seat) {
        Ok(()) => exit::FINISHED,
        Err(error) => {
            terminal::err(format!("worker {}: {error}", seat.index));
            exit::FAILED
        }
    }
}

/// Called in the new process before it becomes a worker; only async-signal-safe calls. Ctrl-C and signals to a group reach every
/// process, but only the driver decides; and without a driver a worker has no purpose.
pub(super) fn bind_to_driver(driver: u32) -> std::io::Result<()> {
    // SAFETY: the calls only set and read attributes of this process. Both settings outlive `exec`.
    let parent = unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid()
    };
    // The driver may have ended before the setting that would have told.
    if u32::try_from(parent) == Ok(driver) { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
}

fn try_serve(job: &Job, parsed: &Parsed, seat: &Seat) -> WorkerResult<()> {
    let (plan, side, configuration) = build_job(job, parsed)?;
    // Not dropped: the process ends anyway, and an author's `Drop` that panics must not change how the job ended.
    std::mem::forget(side);
    let stream = UnixStream::connect(&seat.socket)
        .map_err(|e| format!("the driver cannot be reached at {} ({e})", seat.socket.display()))?;
    let network = Network::start(NetworkOptions::new(seat.token))?;
    let hash = job_graph_hash(&plan.graph);
    let mut incoming = stream.try_clone()?;
    let link = Arc::new(Link { stream: Mutex::new(stream) });
    link.write(to_driver::Message::Hello(proto::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        pid: process::id(),
        job_graph_hash: hash,
        data_address: network.address().to_string(),
        worker_index: seat.index,
        vertices: plan.graph.vertices.iter().map(vertex_info).collect(),
    }))?;
    let plan = Arc::new(plan);
    std::mem::forget(plan.clone());
    let Some(deploy) = await_deploy(&mut incoming)? else { return Ok(()) };
    if deploy.job_graph_hash != hash {
        return Err("the driver deployed another graph than this worker built".into());
    }
    let peers = deploy.peers.iter().map(|p| p.data_address.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;
    connect(&network, seat.index, &peers, &incoming)?;
    let spec = WorkerSpec {
        placement: placement(&plan, &deploy)?,
        plan,
        index: seat.index,
        network: Some(network),
        run_id: deploy.run_id,
    };
    let worker = Arc::new(Worker::start(spec, link.clone()));
    report_metrics(&worker, &link, configuration.get(&options::PROGRESS_INTERVAL))?;
    follow_orders(&mut incoming, &worker)?;
    worker.join();
    link.write(metrics_report(&worker))?;
    Ok(())
}

fn vertex_info(vertex: &JobVertex) -> proto::VertexInfo {
    proto::VertexInfo { id: vertex.id.as_bytes().to_vec(), name: vertex.name.clone(), parallelism: vertex.parallelism }
}

/// Connects with the other workers. One that dies meanwhile must not keep this one waiting for it: anything the driver says
/// before the tasks run can only be that they will not.
fn connect(network: &Network, index: u32, peers: &[SocketAddr], incoming: &UnixStream) -> WorkerResult<()> {
    let driver = incoming.as_raw_fd();
    let connected = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !connected.load(Ordering::Acquire) {
                if readable_within(driver, Duration::from_millis(20)) && !connected.load(Ordering::Acquire) {
                    process::exit(i32::from(exit::FINISHED));
                }
            }
        });
        let result = network.connect(index, peers);
        connected.store(true, Ordering::Release);
        result
    })?;
    Ok(())
}

/// Whether something arrives on a socket (its end included) within `timeout`.
fn readable_within(socket: RawFd, timeout: Duration) -> bool {
    let mut poll = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one live pollfd, and the descriptor stays open while the caller borrows its stream.
    unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as libc::c_int) > 0 }
}

fn await_deploy(incoming: &mut UnixStream) -> WorkerResult<Option<proto::Deploy>> {
    match read_frame::<proto::ToWorker>(incoming)?.map(|frame| frame.message) {
        Some(Some(to_worker::Message::Deploy(deploy))) => Ok(Some(deploy)),
        // The driver gave up or shuts down before anything was deployed.
        None | Some(Some(to_worker::Message::Shutdown(_) | to_worker::Message::Cancel(_))) => Ok(None),
        Some(other) => Err(format!("the driver's first message is {other:?}; expected Deploy").into()),
    }
}

fn placement(plan: &JobPlan, deploy: &proto::Deploy) -> WorkerResult<Placement> {
    let mut workers = vec![Vec::new(); plan.graph.vertices.len()];
    for vertex in &deploy.placements {
        let position = vertex.vertex as usize;
        let parallelism =
            plan.graph.vertices.get(position).ok_or("a placement names a vertex that is not there")?.parallelism;
        workers[position] = vertex.workers(parallelism)?;
    }
    Ok(Placement::new(deploy.peers.len() as u32, workers))
}

/// Does what the driver says until it says that all is done.
fn follow_orders(incoming: &mut UnixStream, worker: &Worker) -> WorkerResult<()> {
    loop {
        let frame = read_frame::<proto::ToWorker>(incoming)?;
        match frame.map(|frame| frame.message) {
            None => {
                terminal::err("worker: the driver is gone; stopping");
                process::exit(i32::from(exit::FAILED));
            }
            Some(Some(to_worker::Message::SplitResponse(response))) => {
                let (task, answer) = protocol::split_answer(response);
                worker.answer_split(task, answer);
            }
            Some(Some(to_worker::Message::Cancel(_))) => worker.cancel(),
            Some(Some(to_worker::Message::Shutdown(_))) => return Ok(()),
            Some(Some(to_worker::Message::Deploy(_))) => return Err("the driver deployed twice".into()),
            // A message of a newer driver that this worker can do without.
            Some(None) => {}
        }
    }
}

fn metrics_report(worker: &Worker) -> to_driver::Message {
    to_driver::Message::MetricsReport(proto::MetricsReport {
        tasks: worker.metrics().into_iter().map(protocol::metrics_to_message).collect(),
        rss_bytes: usage::peak_resident_bytes(),
        cpu_nanos: usage::cpu_time().as_nanos() as u64,
    })
}

fn report_metrics(worker: &Arc<Worker>, link: &Arc<Link>, interval: Duration) -> WorkerResult<()> {
    let (worker, link) = (worker.clone(), link.clone());
    thread::Builder::new().name("weir-metrics".into()).spawn(move || {
        // Ends with the process or with the connection.
        while link.write(metrics_report(&worker)).is_ok() {
            thread::sleep(interval);
        }
    })?;
    Ok(())
}

/// The connection to the driver.
struct Link {
    stream: Mutex<UnixStream>,
}

impl Link {
    fn write(&self, message: to_driver::Message) -> Result<(), weir_proto::FrameError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *stream, &protocol::to_driver(message))
    }
}

impl DriverLink for Link {
    fn send(&self, event: WorkerEvent) {
        // When the driver is gone the reading side notices and ends the process.
        let _ = self.write(protocol::event_to_message(event));
    }
}
