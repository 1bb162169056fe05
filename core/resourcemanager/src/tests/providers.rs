//! What is asked of providers, and what follows from their answers.

use weir_provider_api::{Capability, ProviderEvent, RecoveredWorker};

use super::harness::*;
use crate::{Effect, Event, ResourceManagerOptions};

fn capacity(max: u32) -> ProviderEvent {
    ProviderEvent::Capacity { max_workers: Some(max), message: "queue `a`".to_owned() }
}

#[test]
fn missing_task_managers_are_asked_for_and_not_twice() {
    let mut cluster = Cluster::with(options(&["p"]));
    let effects = cluster.need(1, 3);
    assert_eq!(requests(&effects), ["start p-1f-1", "start p-1f-2"]);
    let wait = wait_of(&effects, 1).unwrap();
    assert_eq!(wait.pending, 4);
    assert_eq!(wait.reasons, ["provider p is starting 2 TaskManagers"]);
    assert!(requests(&cluster.need(2, 1)).is_empty());
    assert_eq!(requests(&cluster.need(3, 1)), ["start p-1f-3"]);
    let plan = effects.iter().find_map(|effect| match effect {
        Effect::Planned(plan) => Some(plan.to_string()),
        _ => None,
    });
    assert_eq!(plan.unwrap(), "3 slots missing, 0 pending: start 2 with p");
}

#[test]
fn the_name_stands_in_the_command() {
    let mut cluster = Cluster::with(options(&["p"]));
    let effects = cluster.need(1, 1);
    let spec = effects.iter().find_map(|effect| match effect {
        Effect::Provider { request: weir_provider_api::ProviderRequest::StartWorker(spec), .. } => Some(spec),
        _ => None,
    });
    assert_eq!(spec.unwrap().command, ["weir", "--id=p-1f-1"]);
}

#[test]
fn the_next_provider_gets_what_the_first_one_cannot_give() {
    let mut cluster = Cluster::with(options(&["p", "q"]));
    cluster.provider("p", capacity(1));
    assert_eq!(requests(&cluster.need(1, 6)), ["start p-1f-1", "start q-1f-2", "start q-1f-3"]);
    cluster.provider("q", capacity(2));
    let never = wait_of(&cluster.need(2, 7), 2).unwrap().never.unwrap();
    assert!(never.contains("there can be 6 at most"), "{never}");
    assert!(never.contains("provider p can have 1 TaskManager at most (queue `a`)"), "{never}");
}

#[test]
fn requests_nobody_needs_any_more_are_withdrawn_the_newest_first() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 6);
    let started = ProviderEvent::Started { id: tm("p-1f-3"), location: "pid 1".to_owned() };
    cluster.provider("p", started);
    let effects = cluster.need(1, 0);
    assert_eq!(requests(&effects), ["stop p-1f-2", "stop p-1f-1"]);
    assert_eq!(cluster.manager.view().pending_task_managers, 1, "one is being started already");
    cluster.register("p-1f-3", 2);
    assert_eq!(shut_down(&cluster.wait(seconds(30))), ["p-1f-3"]);
}

#[test]
fn stopping_is_asked_for_until_the_end_is_known() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 2);
    assert_eq!(requests(&cluster.need(1, 0)), ["stop p-1f-1"]);
    assert_eq!(requests(&cluster.wait(seconds(65))), ["stop p-1f-1", "stop p-1f-1"]);
    cluster.terminated("p", "p-1f-1", true);
    assert!(requests(&cluster.wait(seconds(65))).is_empty());
}

#[test]
fn a_provider_that_fails_too_often_rests_and_the_next_one_steps_in() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 1);
    for request in 1..10 {
        let effects = cluster.terminated("p", &format!("p-1f-{request}"), true);
        assert_eq!(requests(&effects), [format!("start p-1f-{}", request + 1)]);
    }
    let effects = cluster.terminated("p", "p-1f-10", true);
    assert!(requests(&effects).is_empty());
    let wait = wait_of(&effects, 1).unwrap();
    assert_eq!(wait.reasons, ["provider p failed: exit code 1; it is asked again later"]);
    assert_eq!(wait.never, None);
    assert_eq!(requests(&cluster.wait(seconds(4))), ["start p-1f-11"]);

    let mut cluster = Cluster::with(options(&["p", "q"]));
    cluster.provider("p", ProviderEvent::Failed { message: "no route".to_owned(), fatal: false });
    assert_eq!(requests(&cluster.need(1, 1)), ["start q-1f-1"]);
}

#[test]
fn failures_are_forgotten_after_a_while() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 1);
    for request in 1..30 {
        cluster.wait(seconds(7));
        let effects = cluster.terminated("p", &format!("p-1f-{request}"), true);
        assert_eq!(requests(&effects).len(), 1, "{request}");
    }
}

#[test]
fn a_refusal_for_good_ends_the_wait_and_is_tried_again_for_the_next_job() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 1);
    let never = wait_of(&cluster.terminated("p", "p-1f-1", false), 1).unwrap().never.unwrap();
    assert!(never.contains("provider p cannot start TaskManagers: exit code 1"), "{never}");
    cluster.need(1, 0);
    assert_eq!(requests(&cluster.need(2, 1)), ["start p-1f-2"]);
}

#[test]
fn a_provider_that_broke_leaves_nothing_pending() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 4);
    cluster.register("p-1f-1", 2);
    let effects = cluster.provider("p", ProviderEvent::Failed { message: "bug".to_owned(), fatal: true });
    let wait = wait_of(&effects, 1).unwrap();
    assert_eq!((wait.pending, wait.available), (0, 2));
    assert!(wait.never.unwrap().contains("provider p cannot be used: bug"));
    // What registered already ends without its help.
    cluster.need(1, 0);
    let effects = cluster.wait(seconds(31));
    assert_eq!(shut_down(&effects), ["p-1f-1"]);
    assert!(requests(&effects).is_empty());
    // The other one comes late.
    assert_eq!(shut_down(&cluster.register("p-1f-2", 2)), ["p-1f-2"]);
}

#[test]
fn an_unusable_provider_is_named() {
    let mut cluster = Cluster::new(options(&["p"]));
    assert_eq!(wait_of(&cluster.need(1, 1), 1).unwrap().reasons, ["provider p is being opened"]);
    let effects = cluster.event(Event::ProviderUnusable { name: "p".to_owned(), reason: "no such file".to_owned() });
    let never = wait_of(&effects, 1).unwrap().never.unwrap();
    assert!(never.contains("provider p cannot be used: no such file"), "{never}");
}

#[test]
fn a_worker_that_does_not_register_in_time_is_stopped_and_replaced() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 1);
    cluster.wait(seconds(200));
    cluster.provider("p", ProviderEvent::Ready { id: tm("p-1f-1") });
    assert!(requests(&cluster.wait(seconds(200))).is_empty());
    assert_eq!(requests(&cluster.wait(seconds(101))), ["stop p-1f-1", "start p-1f-2"]);
}

#[test]
fn recovered_workers_are_awaited_before_others_are_started() {
    let mut cluster = Cluster::new(options(&["p"]));
    cluster.open("p", &[Capability::Recover]);
    assert!(requests(&cluster.need(1, 6)).is_empty(), "nobody knows yet what is there");
    // One is faster than the provider.
    cluster.register("p-1e-7", 2);
    let worker = |id: &str| RecoveredWorker { id: tm(id), slots: 2, location: String::new() };
    let effects = cluster.provider("p", ProviderEvent::Recovered(vec![worker("p-1e-7"), worker("p-1e-8")]));
    assert_eq!(requests(&effects), ["start p-1f-1"]);
    cluster.register("p-1f-1", 2);
    assert_eq!(requests(&cluster.wait(seconds(301))), ["stop p-1e-8", "start p-1f-2"]);
    cluster.register("p-1f-2", 2);
    cluster.terminated("p", "p-1e-8", true);
    cluster.need(1, 0);
    let stopped = requests(&cluster.wait(seconds(29)));
    assert!(stopped.is_empty(), "{stopped:?}");
    let stopped = requests(&cluster.wait(seconds(2)));
    assert_eq!(stopped, ["stop p-1e-7", "stop p-1f-1", "stop p-1f-2"]);
}

#[test]
fn a_recovered_worker_that_has_ended_does_not_come_back() {
    let mut cluster = Cluster::new(options(&["p"]));
    cluster.open("p", &[Capability::Recover]);
    let worker = RecoveredWorker { id: tm("p-1e-8"), slots: 2, location: String::new() };
    cluster.provider("p", ProviderEvent::Recovered(vec![worker]));
    cluster.register("p-1e-8", 2);
    cluster.terminated("p", "p-1e-8", true);
    // What it said before its end arrives after the news of that.
    assert_eq!(shut_down(&cluster.register("p-1e-8", 2)), ["p-1e-8"]);
    assert_eq!(cluster.manager.view().task_managers, 0);
}

#[test]
fn a_provider_that_does_not_recover_in_time_is_used_without() {
    let mut cluster = Cluster::new(options(&["p"]));
    cluster.open("p", &[Capability::Recover]);
    cluster.need(1, 2);
    assert_eq!(requests(&cluster.wait(seconds(301))), ["start p-1f-1"]);
}

#[test]
fn a_worker_nobody_asked_for_is_stopped() {
    let mut cluster = Cluster::with(options(&["p"]));
    let effects = cluster.provider("p", ProviderEvent::Ready { id: tm("p-1f-9") });
    assert_eq!(requests(&effects), ["stop p-1f-9"]);
}

#[test]
fn demand_is_declared_to_providers_that_understand_it() {
    let mut cluster = Cluster::new(options(&["p"]));
    assert_eq!(requests(&cluster.open("p", &[Capability::Demand])), ["recover p", "demand p 0"]);
    assert_eq!(requests(&cluster.need(1, 3)), ["start p-1f-1", "start p-1f-2", "demand p 2"]);
    assert!(requests(&cluster.register("p-1f-1", 2)).is_empty());
}

#[test]
fn nothing_is_started_beyond_the_greatest_number_of_slots() {
    let mut cluster = Cluster::with(ResourceManagerOptions { max_slots: Some(6), ..options(&["p"]) });
    cluster.register("started-by-hand", 2);
    assert_eq!(requests(&cluster.need(1, 4)), ["start p-1f-1"]);
    let effects = cluster.need(2, 4);
    assert_eq!(requests(&effects), ["start p-1f-2"]);
    let wait = wait_of(&effects, 2).unwrap();
    assert_eq!(wait.never, None, "the first job may end");
    assert!(wait.reasons.iter().any(|reason| reason.contains("`slotmanager.number-of-slots.max` is 6")), "{wait:?}");
}
