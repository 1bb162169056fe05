//! TaskManagers that come, go, come back and are not needed any more.

use weir_provider_api::{FinalStatus, ProviderEvent};

use super::harness::*;
use crate::{Effect, Event, ProviderChoice, ResourceManagerOptions};

#[test]
fn a_lost_task_manager_takes_its_slots_along() {
    let mut cluster = Cluster::with(options(&[]));
    cluster.register("a", 1);
    cluster.register("b", 1);
    cluster.need(1, 2);
    let effects = cluster.lose("b");
    assert_eq!(losses(&effects, "b"), [job(1)]);
    assert_eq!(wait_of(&effects, 1).unwrap().granted, 1);
    assert_eq!(granted(&cluster.register("c", 1), 1), ["c/0"]);
}

#[test]
fn a_new_process_of_the_same_name_replaces_the_old_one() {
    let mut cluster = Cluster::with(options(&[]));
    cluster.register("a", 2);
    cluster.need(1, 2);
    let effects = cluster.event(Event::TaskManagerRegistered(info("a", 2, 2)));
    assert_eq!(losses(&effects, "a"), [job(1)]);
    assert_eq!(granted(&effects, 1).len(), 2);
    // What is left of the old one does not matter.
    assert!(losses(&cluster.lose("a"), "a").is_empty());
    assert_eq!(cluster.manager.view().task_managers, 1);
}

#[test]
fn an_idle_task_manager_of_a_provider_is_stopped_and_others_are_not() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 2);
    cluster.register("p-1f-1", 2);
    cluster.register("started-by-hand", 2);
    assert!(requests(&cluster.wait(seconds(100))).is_empty(), "it is in use");
    cluster.need(1, 0);
    assert!(requests(&cluster.wait(seconds(29))).is_empty());
    let effects = cluster.wait(seconds(2));
    assert_eq!(requests(&effects), ["stop p-1f-1"]);
    assert_eq!(shut_down(&effects), ["p-1f-1"]);
    assert_eq!(cluster.manager.view().slots_total, 2);
    cluster.terminated("p", "p-1f-1", true);
    assert!(requests(&cluster.wait(seconds(3600))).is_empty());
}

#[test]
fn an_idle_task_manager_is_kept_while_a_job_waits_for_more() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 4);
    cluster.register("p-1f-1", 2);
    assert!(requests(&cluster.wait(seconds(100))).is_empty());
    assert_eq!(granted(&cluster.register("p-1f-2", 2), 1).len(), 4);
}

#[test]
fn the_least_number_is_started_and_kept_without_any_job() {
    let choice = ProviderChoice { name: "p".to_owned(), min_workers: 2 };
    let mut cluster = Cluster::new(ResourceManagerOptions { providers: vec![choice], ..options(&[]) });
    assert_eq!(requests(&cluster.open("p", &[])), ["recover p", "start p-1f-1", "start p-1f-2"]);
    assert!(requests(&cluster.need(1, 4)).is_empty(), "what is on its way is enough");
    cluster.need(1, 5);
    for id in ["p-1f-1", "p-1f-2", "p-1f-3"] {
        cluster.register(id, 2);
    }
    cluster.need(1, 0);
    assert_eq!(shut_down(&cluster.wait(seconds(31))).len(), 1);
    assert!(shut_down(&cluster.wait(seconds(1000))).is_empty());
}

#[test]
fn redundant_task_managers_are_kept_while_a_job_runs() {
    let mut cluster = Cluster::with(ResourceManagerOptions { redundant: 1, ..options(&["p"]) });
    assert_eq!(requests(&cluster.need(1, 2)), ["start p-1f-1", "start p-1f-2"]);
    cluster.register("p-1f-1", 2);
    cluster.register("p-1f-2", 2);
    assert!(shut_down(&cluster.wait(seconds(1000))).is_empty());
    // One is lost: the other takes over at once, and a new reserve is asked for.
    let id = cluster.manager.task_managers().find(|found| found.free == 0).unwrap().info.id;
    let effects = cluster.terminated("p", id.as_str(), true);
    assert_eq!(losses(&effects, id.as_str()), [job(1)]);
    assert_eq!(granted(&effects, 1).len(), 2);
    assert_eq!(requests(&effects), ["start p-1f-3"]);
    cluster.need(1, 0);
    assert_eq!(shut_down(&cluster.wait(seconds(100))).len(), 1);
}

#[test]
fn a_worker_whose_connection_broke_is_expected_back_for_a_while() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 2);
    cluster.register("p-1f-1", 2);
    let effects = cluster.lose("p-1f-1");
    assert!(requests(&effects).is_empty());
    assert_eq!(wait_of(&effects, 1).unwrap().pending, 2);
    assert_eq!(granted(&cluster.register("p-1f-1", 2), 1).len(), 2);
    cluster.lose("p-1f-1");
    let effects = cluster.wait(seconds(6));
    assert_eq!(requests(&effects), ["stop p-1f-1", "start p-1f-2"]);
    // It comes back nevertheless, too late.
    assert_eq!(shut_down(&cluster.register("p-1f-1", 2)), ["p-1f-1"]);
}

#[test]
fn a_worker_whose_process_ended_is_replaced_at_once() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 2);
    cluster.register("p-1f-1", 2);
    let effects = cluster.terminated("p", "p-1f-1", true);
    assert_eq!(losses(&effects, "p-1f-1"), [job(1)]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Disconnect { incarnation: 1, .. })));
    assert_eq!(requests(&effects), ["start p-1f-2"]);
    // The connection's end and a late registration say nothing new.
    assert!(losses(&cluster.lose("p-1f-1"), "p-1f-1").is_empty());
    assert_eq!(shut_down(&cluster.register("p-1f-1", 2)), ["p-1f-1"]);
}

#[test]
fn a_draining_worker_gives_no_slots_and_is_lost_at_its_deadline() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 1);
    cluster.register("p-1f-1", 2);
    let draining = |cluster: &mut Cluster, id: &str| {
        let (deadline, reason) = (seconds(60), "preempted".to_owned());
        cluster.provider("p", ProviderEvent::Draining { id: tm(id), deadline, reason })
    };
    let effects = draining(&mut cluster, "p-1f-1");
    assert!(losses(&effects, "p-1f-1").is_empty() && requests(&effects).is_empty());
    assert_eq!(requests(&cluster.need(2, 1)), ["start p-1f-2"]);
    let effects = cluster.wait(seconds(61));
    assert_eq!(losses(&effects, "p-1f-1"), [job(1)]);
    assert_eq!(requests(&effects), ["stop p-1f-1"]);
    // Another one without a job goes at once.
    cluster.register("p-1f-2", 2);
    cluster.need(1, 0);
    cluster.need(2, 0);
    assert_eq!(shut_down(&draining(&mut cluster, "p-1f-2")), ["p-1f-2"]);
}

#[test]
fn a_shut_down_is_told_to_providers_and_their_task_managers() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(1, 2);
    cluster.register("p-1f-1", 2);
    cluster.register("started-by-hand", 2);
    let (status, message) = (FinalStatus::Succeeded, "asked for".to_owned());
    let effects = cluster.event(Event::ShutDown { stop_workers: true, status, message });
    assert_eq!(requests(&effects), ["shutdown p true"]);
    assert_eq!(shut_down(&effects), ["p-1f-1"]);
    assert!(requests(&cluster.need(2, 9)).is_empty());
}
