//! A cluster as it may be: two TaskManagers, a running job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_metrics::{
    CheckpointFigures, JobManagerSample, TaskManagerSample, TaskSample, WorkerUsage, job_manager_exposition,
    process_metrics, task_manager_exposition, task_manager_metrics,
};
use weir_model::{
    JobGraph, JobId, JobStatus, JobSummary, JobView, MetricsSnapshot, OperatorId, OperatorInfo, OperatorKind,
    ProviderView, ResourcesView, TaskManagerId, TaskManagerInfo, TaskRates, VertexId, VertexLabel,
};

pub const RECORDS_IN: u64 = 12_345_678_901;

fn running_job() -> JobView {
    let name = "Word \"Count\"\\\n1".to_owned();
    let mut timestamps = [None; JobStatus::ALL.len()];
    timestamps[JobStatus::Running as usize] = Some(1000);
    JobView {
        summary: JobSummary {
            id: JobId::from_bytes([0xab; 16]),
            name: name.clone(),
            status: JobStatus::Running,
            start: 500,
            end: None,
            last_modification: 1000,
            tasks: [0; 10],
            bounded: true,
            adaptive: false,
        },
        graph: Arc::new(JobGraph { name, vertices: Vec::new(), edges: Vec::new(), config: BTreeMap::new() }),
        artifact: None,
        timestamps,
        time_in_status: [0; JobStatus::ALL.len()],
        configuration: BTreeMap::new(),
        restart_strategy: String::new(),
        restarts: 2,
        vertices: Vec::new(),
        failures: Vec::new(),
        failures_truncated: false,
        waiting: None,
        scaling: None,
    }
}

pub fn of_job_manager() -> String {
    let job = running_job();
    let provider = ProviderView { name: "standalone".to_owned(), running: 2, ..ProviderView::default() };
    job_manager_exposition(&JobManagerSample {
        host: "jm.example",
        process: &process_metrics(),
        resources: &ResourcesView {
            task_managers: 2,
            pending_task_managers: 0,
            slots_total: 8,
            slots_available: 3,
            providers: vec![provider],
        },
        summaries: std::slice::from_ref(&job.summary),
        jobs: &[(&job, CheckpointFigures::default())],
        now: 6000,
    })
}

pub fn of_task_manager() -> String {
    let vertex = Arc::new(VertexLabel {
        id: VertexId::from_seed(b"count"),
        name: "Count -> Sink: out".to_owned(),
        operators: vec![OperatorInfo {
            id: OperatorId::from_seed(b"count"),
            name: "Count".to_owned(),
            uid: None,
            kind: OperatorKind::Transform,
        }],
        one_end: true,
    });
    let task = |subtask| TaskSample {
        job: JobId::from_bytes([0xab; 16]),
        job_name: running_job().summary.name,
        vertex: vertex.clone(),
        subtask,
        attempt: 1,
        metrics: MetricsSnapshot { records_in: RECORDS_IN, ..MetricsSnapshot::default() },
        rates: TaskRates { records_in: 1000.5, busy: 0.75, idle: 0.25, ..TaskRates::default() },
    };
    let info = TaskManagerInfo {
        id: TaskManagerId::new("tm-1"),
        incarnation: 7,
        slots: 4,
        host: "127.0.0.1".to_owned(),
        metrics_port: 9250,
        pid: 1,
        memory: 1 << 30,
        cpu_cores: 4,
        physical_memory: 1 << 33,
        version: "0.1.0".to_owned(),
    };
    task_manager_exposition(&TaskManagerSample {
        info: &info,
        process: &task_manager_metrics(WorkerUsage { memory: 1 << 20, memory_limit: 1 << 30 }),
        tasks: &[task(0), task(1)],
    })
}

/// The names of all families a cluster exposes.
pub fn families() -> BTreeSet<String> {
    let text = of_job_manager() + &of_task_manager();
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The families a PromQL expression asks for: the words in it that begin as ours do.
pub fn families_in(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("flink_") || word.starts_with("weir_")).map(str::to_owned).collect()
}
