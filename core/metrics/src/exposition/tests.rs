use std::collections::{BTreeMap, BTreeSet};

use weir_model::{
    JobStatus, MetricGroup, OperatorId, OperatorInfo, OperatorKind, OperatorMetric, SlotWait, TaskManagerId, VertexId,
};

use super::*;
use crate::job::tests::job;
use crate::{WorkerUsage, process_metrics, task_manager_metrics};

const HOSTILE: &str = "a \"quoted\"\\ job\n# HELP flink_jobmanager_job_uptime forged\r\u{0}\u{1b}[31m{},=é";

fn process() -> Values {
    Values::from([("Status.JVM.CPU.Load".to_owned(), 0.25), ("Status.JVM.CPU.Time".to_owned(), 2.5e9)])
}

fn resources() -> ResourcesView {
    let provider = ProviderView { name: "standalone".to_owned(), pending: 1, running: 2, ..ProviderView::default() };
    ResourcesView {
        task_managers: 2,
        pending_task_managers: 1,
        slots_total: 8,
        slots_available: 3,
        providers: vec![provider],
    }
}

fn running() -> JobView {
    let mut view = job(JobStatus::Running, &[(JobStatus::Running, 1000)]);
    view.restarts = 3;
    view.waiting = Some(SlotWait { needed: 8, granted: 3, ..SlotWait::default() });
    view
}

fn of_job_manager(process: &Values, jobs: &[&JobView]) -> String {
    let summaries: Vec<_> = jobs.iter().map(|job| job.summary.clone()).collect();
    job_manager_exposition(&JobManagerSample {
        host: "jm.example",
        process,
        resources: &resources(),
        summaries: &summaries,
        jobs: &jobs.iter().map(|job| (*job, CheckpointFigures::default())).collect::<Vec<_>>(),
        now: 6000,
    })
}

fn vertex(name: &str) -> Arc<VertexLabel> {
    let operator = |name: &str, kind| {
        let id = OperatorId::from_seed(name.as_bytes());
        OperatorInfo { id, name: name.to_owned(), uid: None, kind }
    };
    let operators = vec![operator("Count", OperatorKind::Transform), operator("Sink: out", OperatorKind::Sink)];
    Arc::new(VertexLabel { id: VertexId::from_seed(b"count"), name: name.to_owned(), operators, one_end: true })
}

fn measured(groups: &[(&str, Option<&str>)], name: &str, value: f64) -> OperatorMetric {
    let group = |(name, value): &(&str, Option<&str>)| MetricGroup {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    };
    let operator = OperatorId::from_seed(b"Count");
    OperatorMetric { operator, groups: groups.iter().map(group).collect(), name: name.to_owned(), value }
}

fn task(subtask: u32) -> TaskSample {
    TaskSample {
        job: JobId::from_bytes([0xab; 16]),
        job_name: "Word Count".to_owned(),
        vertex: vertex("Count -> Sink: out"),
        subtask,
        attempt: 1,
        metrics: MetricsSnapshot {
            records_in: 12_345_678_901,
            records_out: 7,
            bytes_in: 100,
            bytes_out: 200,
            busy_nanos: 1_500_000_000,
            idle_nanos: 500_000_000,
            backpressured_nanos: 0,
            input_watermark: Some(1_700_000_000_999),
            output_watermark: None,
            state_bytes: 4096,
            state_keys: 3,
            operators: vec![measured(&[("Reader", None), ("partition", Some("7"))], "lag", 41.0)],
        },
        rates: TaskRates { records_in: 1000.5, busy: 0.75, idle: 0.25, ..TaskRates::default() },
    }
}

fn info() -> TaskManagerInfo {
    TaskManagerInfo {
        id: TaskManagerId::new("tm-1"),
        incarnation: 7,
        slots: 4,
        host: "10.0.0.1".to_owned(),
        metrics_port: 9250,
        pid: 1,
        memory: 1 << 30,
        cpu_cores: 4,
        physical_memory: 1 << 33,
        version: "0.1.0".to_owned(),
    }
}

fn of_task_manager(process: &Values, tasks: &[TaskSample]) -> String {
    task_manager_exposition(&TaskManagerSample { info: &info(), process, tasks })
}

/// Compares with a file, and says how to make it anew.
fn check_golden(name: &str, golden: &str, text: &str) {
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    if text != golden {
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, &text).unwrap();
        panic!("the exposition is not that of src/exposition/golden/{name}; what it is now: {}", path.display());
    }
}

/// The samples of an exposition, as `name{labels}` and value. Fails on a line that does not parse, on a family whose
/// description stands twice or behind its samples, on a sample that stands twice.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'));
    for line in text.split_terminator('\n') {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap();
            assert!(families.insert(name.to_owned()), "{name} is described twice");
            current = name.to_owned();
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, of) = of.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert!(matches!(of, "gauge" | "counter"), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = parse_sample(line);
            assert!(series.strip_prefix(&current).is_some_and(|rest| rest.starts_with('{')), "{line}");
            assert!(samples.insert(series, value).is_none(), "{line} stands twice");
        }
    }
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(names.is_sorted(), "the families are not in order");
    samples
}

fn parse_sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap();
    assert!(is_name(name), "{line}");
    let mut rest = labels;
    loop {
        let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label) && !label.contains(':'), "{line}");
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or_else(|| panic!("{line}"));
        match &after[end + 1..] {
            "}" => break,
            more => rest = more.strip_prefix(',').unwrap_or_else(|| panic!("{line}")),
        }
    }
    (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.chars().all(plain) && text.starts_with(|c: char| plain(c) && !c.is_ascii_digit())
}

#[test]
fn the_job_managers_exposition_has_flinks_names_and_labels() {
    let text = of_job_manager(&process(), &[&running()]);
    parse(&text);
    check_golden("job_manager.txt", include_str!("golden/job_manager.txt"), &text);
}

#[test]
fn a_task_managers_exposition_has_flinks_names_and_labels() {
    let text = of_task_manager(&process(), &[task(0), task(1)]);
    let samples = parse(&text);
    let records: f64 = samples
        .iter()
        .filter(|(name, _)| name.starts_with("weir_task_records_in_total{"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(records, 2.0 * 12_345_678_901.0);
    check_golden("task_manager.txt", include_str!("golden/task_manager.txt"), &text);
}

#[test]
fn a_hostile_name_stays_within_its_label() {
    let mut hostile = running();
    hostile.summary.name = HOSTILE.to_owned();
    let mut other = running();
    other.summary.id = JobId::from_bytes([1; 16]);
    let samples = parse(&of_job_manager(&Values::new(), &[&hostile, &other]));
    let of_hostile: Vec<_> = samples.keys().filter(|name| name.starts_with("flink_jobmanager_job_uptime{")).collect();
    assert_eq!(of_hostile.len(), 2, "{of_hostile:?}");
    assert!(of_hostile.iter().any(|name| name.contains(r#"a \"quoted\"\\ job\n# HELP"#)), "{of_hostile:?}");

    let mut task = task(0);
    task.job_name = HOSTILE.to_owned();
    task.vertex = vertex(&"x".repeat(1 << 20));
    let text = of_task_manager(&Values::new(), &[task]);
    parse(&text);
    assert!(text.len() < 100_000, "{} bytes", text.len());
}

#[test]
fn what_code_measures_hides_nothing_and_comes_once() {
    let mut task = task(0);
    task.metrics.operators = vec![
        measured(&[], "numRecordsIn", -1.0),
        measured(&[("a-b", Some("1"))], "lag", 1.0),
        measured(&[("a.b", Some("1"))], "lag", 2.0),
        measured(&[("job_id", Some("x")), ("__name__", Some("y")), ("9", Some("z"))], "odd", 3.0),
    ];
    let values = parse(&of_task_manager(&process(), &[task]));
    let of = |part: &str| values.iter().filter(|(name, _)| name.contains(part)).collect::<Vec<_>>();
    let taken = of("flink_taskmanager_job_task_operator_numRecordsIn{");
    assert!(taken.iter().all(|(_, value)| **value > 0.0), "{taken:?}");
    assert_eq!(of("operator_a_b_lag").len(), 1, "two names that are one in Prometheus");
    let odd = of("_odd");
    assert_eq!(odd.len(), 1);
    for label in ["job_id_=\"x\"", "name__=\"y\"", "label_9=\"z\""] {
        assert!(odd[0].0.contains(label), "{label} in {odd:?}");
    }
}

#[test]
fn jobs_that_have_ended_are_only_counted() {
    let ended = job(JobStatus::Failed, &[(JobStatus::Failed, 1000)]);
    let samples = parse(&of_job_manager(&Values::new(), &[&ended]));
    assert!(!samples.keys().any(|name| name.contains("job_name")), "{samples:#?}");
    assert_eq!(samples[r#"weir_jobs{host="jm.example",status="FAILED"}"#], 1.0);
    assert_eq!(samples[r#"weir_jobs{host="jm.example",status="RUNNING"}"#], 0.0);
}

#[test]
fn real_processes_and_odd_values_parse() {
    parse(&of_job_manager(&process_metrics(), &[]));
    let mut process = task_manager_metrics(WorkerUsage { memory: 1, memory_limit: u64::MAX });
    for (name, value) in [("nan", f64::NAN), ("inf", f64::INFINITY), ("tiny", 1e-300), ("ä b-c", -0.0)] {
        process.insert(name.to_owned(), value);
    }
    let samples = parse(&of_task_manager(&process, &[]));
    assert!(samples.contains_key(r#"flink_taskmanager___b_c{host="10.0.0.1",tm_id="tm-1"}"#), "{samples:#?}");
}
