//! The Dispatcher as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use weir_model::{
    Artifact, ArtifactId, ExecutionState, JobGraph, JobId, JobStatus, JobVertex, JobView, OperatorId, OperatorInfo,
    OperatorKind, VertexId,
};

use crate::{Dispatcher, DispatcherOptions, Effect, Event, JobRecord, SubmitError};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn artifact(number: u8) -> Artifact {
    Artifact { id: ArtifactId::from_bytes([number; 32]), size: 1, name: "job".to_owned() }
}

fn record(number: u8, artifact_number: u8) -> JobRecord {
    let operator = OperatorId::from_seed(b"source");
    let kind = OperatorKind::Source { bounded: true };
    let vertex = JobVertex {
        id: VertexId::from(operator),
        name: "Source".to_owned(),
        operators: vec![OperatorInfo { id: operator, name: "Source".to_owned(), uid: None, kind }],
        parallelism: 2,
        max_parallelism: 128,
        slot_sharing_group: "default".to_owned(),
    };
    let graph =
        JobGraph { name: format!("job {number}"), vertices: vec![vertex], edges: Vec::new(), config: BTreeMap::new() };
    JobRecord {
        id: id(number),
        graph: Arc::new(graph),
        artifact: artifact(artifact_number),
        arguments: Vec::new(),
        configuration: BTreeMap::new(),
        submitted: seconds(10),
    }
}

/// The last view of a job that finished.
fn finished(number: u8) -> Arc<JobView> {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    dispatcher.on_event(Event::Recovered(vec![record(number, 1)]), seconds(20));
    let mut view = JobView::clone(dispatcher.archived(id(number)).unwrap());
    view.summary.status = JobStatus::Finished;
    Arc::new(view)
}

fn submit(dispatcher: &mut Dispatcher, number: u8, artifact: u8) -> Vec<Effect> {
    let record = Arc::new(record(number, artifact));
    dispatcher.on_event(Event::Submitted { request: u64::from(number), record }, seconds(100))
}

fn persisted(dispatcher: &mut Dispatcher, number: u8) -> Vec<Effect> {
    dispatcher.on_event(Event::Persisted { job: id(number), result: Ok(()) }, seconds(100))
}

fn answer(effects: &[Effect]) -> Option<Result<JobId, SubmitError>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { result, .. } => Some(result.clone()),
        _ => None,
    })
}

#[test]
fn a_job_is_accepted_and_started_once_it_is_recorded() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    let effects = submit(&mut dispatcher, 1, 7);
    assert_eq!(effects, [Effect::Persist(Arc::new(record(1, 7)))]);
    assert!(dispatcher.running(id(1)).is_none());
    let effects = persisted(&mut dispatcher, 1);
    assert!(matches!(&effects[0], Effect::StartJobMaster(record) if record.id == id(1)));
    assert_eq!(answer(&effects), Some(Ok(id(1))));
    assert!(dispatcher.running(id(1)).is_some());
    assert!(persisted(&mut dispatcher, 1).is_empty(), "once is enough");
}

#[test]
fn an_id_that_was_used_is_refused_whatever_became_of_the_job() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    let refused = |dispatcher: &mut Dispatcher, status: &str| {
        let effects = submit(dispatcher, 1, 8);
        let error = answer(&effects).unwrap().unwrap_err().to_string();
        assert!(error.contains(status) && error.contains("\"job 1\""), "{error}");
        assert_eq!(effects.len(), 1);
    };
    submit(&mut dispatcher, 1, 7);
    refused(&mut dispatcher, "being submitted");
    persisted(&mut dispatcher, 1);
    refused(&mut dispatcher, "running");
    dispatcher.on_event(Event::JobEnded { view: finished(1) }, seconds(200));
    refused(&mut dispatcher, "FINISHED");
    assert_eq!(dispatcher.users_of(artifact(8).id), 0);
}

#[test]
fn a_job_that_cannot_be_recorded_is_refused_and_leaves_nothing() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    submit(&mut dispatcher, 1, 7);
    let result = Err("no space left on device".to_owned());
    let effects = dispatcher.on_event(Event::Persisted { job: id(1), result }, seconds(100));
    let error = answer(&effects).unwrap().unwrap_err().to_string();
    assert!(error.contains("no space left"), "{error}");
    assert!(effects.contains(&Effect::Forget(id(1))));
    assert!(effects.contains(&Effect::ReleaseArtifact(artifact(7).id)));
    assert_eq!(submit(&mut dispatcher, 1, 7).len(), 1, "it may be tried again");
}

#[test]
fn an_ended_job_is_archived_and_its_record_forgotten() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    submit(&mut dispatcher, 1, 7);
    persisted(&mut dispatcher, 1);
    let effects = dispatcher.on_event(Event::JobEnded { view: finished(1) }, seconds(200));
    assert!(matches!(&effects[0], Effect::Forget(job) if *job == id(1)));
    assert!(matches!(&effects[1], Effect::Archived(_)));
    assert_eq!(effects[2], Effect::ReleaseArtifact(artifact(7).id));
    assert_eq!(dispatcher.archived(id(1)).unwrap().summary.status, JobStatus::Finished);
    assert_eq!(dispatcher.running_jobs().count(), 0);
    assert!(dispatcher.on_event(Event::JobEnded { view: finished(1) }, seconds(200)).is_empty(), "it has ended");
}

#[test]
fn an_artifact_is_released_when_the_last_of_its_jobs_ends() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    for number in [1, 2] {
        submit(&mut dispatcher, number, 7);
        persisted(&mut dispatcher, number);
    }
    let release = Effect::ReleaseArtifact(artifact(7).id);
    let effects = dispatcher.on_event(Event::JobEnded { view: finished(1) }, seconds(200));
    assert!(!effects.contains(&release));
    assert_eq!(dispatcher.users_of(artifact(7).id), 1);
    let effects = dispatcher.on_event(Event::JobEnded { view: finished(2) }, seconds(200));
    assert!(effects.contains(&release));
}

#[test]
fn ended_jobs_are_forgotten_after_a_while_and_beyond_a_number() {
    let options = DispatcherOptions { expiration: seconds(60), max_archived: Some(2), ..DispatcherOptions::default() };
    let mut dispatcher = Dispatcher::new(options);
    let mut timer = None;
    let mut end = |dispatcher: &mut Dispatcher, number: u8, at: u64| {
        submit(dispatcher, number, 7);
        persisted(dispatcher, number);
        for effect in dispatcher.on_event(Event::JobEnded { view: finished(number) }, seconds(at)) {
            if let Effect::ScheduleTimer { id, at } = effect {
                timer = Some((id, at));
            }
        }
        timer.unwrap()
    };
    end(&mut dispatcher, 1, 200);
    end(&mut dispatcher, 2, 210);
    let (timer, at) = end(&mut dispatcher, 3, 220);
    assert_eq!(at, seconds(260), "of the oldest");
    let ids = |dispatcher: &Dispatcher| dispatcher.archived_jobs().map(|view| view.summary.id).collect::<Vec<_>>();
    assert_eq!(ids(&dispatcher), [id(3), id(2)]);
    let effects = dispatcher.on_event(Event::Timer { id: timer }, seconds(271));
    assert_eq!(ids(&dispatcher), [id(3)]);
    let [Effect::ScheduleTimer { id: timer, at }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(at, seconds(280));
    assert!(dispatcher.on_event(Event::Timer { id: timer }, seconds(280)).is_empty());
    assert_eq!(ids(&dispatcher), []);
    assert_eq!(submit(&mut dispatcher, 1, 7).len(), 1, "its id may be used again");
}

#[test]
fn ended_jobs_are_forgotten_when_they_have_too_many_tasks_together() {
    // Each has two.
    let remembered = |max_archived_tasks, ends: u8| {
        let mut dispatcher = Dispatcher::new(DispatcherOptions { max_archived_tasks, ..DispatcherOptions::default() });
        for number in 1..=ends {
            submit(&mut dispatcher, number, 7);
            persisted(&mut dispatcher, number);
            dispatcher.on_event(Event::JobEnded { view: finished(number) }, seconds(200));
        }
        dispatcher.archived_jobs().map(|view| view.summary.id).collect::<Vec<_>>()
    };
    assert_eq!(remembered(6, 3), [id(3), id(2), id(1)]);
    assert_eq!(remembered(5, 3), [id(3), id(2)]);
    assert_eq!(remembered(5, 9), [id(9), id(8)]);
    assert_eq!(remembered(1, 3), [id(3)], "the last one, whatever its size");
}

#[test]
fn jobs_of_an_earlier_job_manager_are_reported_lost() {
    let mut dispatcher = Dispatcher::new(DispatcherOptions::default());
    let effects = dispatcher.on_event(Event::Recovered(vec![record(1, 7), record(2, 7)]), seconds(1000));
    for number in [1, 2] {
        assert!(effects.contains(&Effect::Forget(id(number))));
        let view = dispatcher.archived(id(number)).unwrap();
        assert_eq!(view.summary.status, JobStatus::Failed);
        assert_eq!((view.summary.start, view.summary.end), (10_000, Some(1_000_000)));
        assert_eq!(view.summary.tasks[ExecutionState::Canceled as usize], 2);
        assert_eq!(view.vertices[0].len(), 2);
        let message = &view.failures[0].failure.message;
        assert!(message.contains("restarted without high availability"), "{message}");
    }
    assert!(effects.contains(&Effect::ReleaseArtifact(artifact(7).id)));
    assert!(answer(&submit(&mut dispatcher, 1, 7)).unwrap().is_err());
}

proptest! {
    #[test]
    fn an_artifact_is_counted_as_long_as_a_job_needs_it(
        events in prop::collection::vec((0u8..6, 0u8..3, 0u8..4), 1..80),
    ) {
        let mut dispatcher = Dispatcher::new(DispatcherOptions { max_archived: Some(1), ..DispatcherOptions::default() });
        let mut used: BTreeMap<JobId, ArtifactId> = BTreeMap::new();
        for (job, of, kind) in events {
            let effects = match kind {
                0 => submit(&mut dispatcher, job, of),
                1 => persisted(&mut dispatcher, job),
                2 => {
                    let result = Err("full".to_owned());
                    dispatcher.on_event(Event::Persisted { job: id(job), result }, seconds(100))
                }
                _ => dispatcher.on_event(Event::JobEnded { view: finished(job) }, seconds(100)),
            };
            for effect in effects {
                match effect {
                    Effect::Persist(record) => {
                        prop_assert_eq!(used.insert(record.id, record.artifact.id), None);
                    }
                    Effect::Forget(job) => {
                        prop_assert!(used.remove(&job).is_some());
                    }
                    Effect::ReleaseArtifact(artifact) => {
                        prop_assert!(!used.values().any(|used| *used == artifact));
                    }
                    _ => {}
                }
            }
            for number in 0..3 {
                let users = used.values().filter(|used| **used == artifact(number).id).count() as u32;
                prop_assert_eq!(dispatcher.users_of(artifact(number).id), users);
            }
        }
    }
}
