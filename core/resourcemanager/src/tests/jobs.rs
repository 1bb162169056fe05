//! Who gets which slots, and what those are told who wait.

use super::harness::*;
use crate::Event;

#[test]
fn a_job_gets_slots_spread_over_the_least_used_task_managers() {
    let mut cluster = Cluster::with(options(&[]));
    cluster.register("a", 2);
    cluster.register("b", 4);
    assert_eq!(granted(&cluster.need(1, 3), 1), ["a/0", "b/0", "b/1"]);
    assert_eq!(granted(&cluster.need(2, 2), 2), ["a/1", "b/2"]);
    assert_eq!(cluster.manager.view().slots_available, 1);
    let slots = cluster.manager.task_manager(&tm("b")).unwrap();
    assert_eq!((slots.free, slots.allocated), (1, vec![(job(1), 2), (job(2), 1)]));
}

#[test]
fn without_spreading_a_task_manager_is_filled_before_the_next() {
    let mut cluster = Cluster::with(crate::ResourceManagerOptions { spread: false, ..options(&[]) });
    cluster.register("a", 2);
    cluster.register("b", 2);
    assert_eq!(granted(&cluster.need(1, 1), 1), ["a/0"]);
    assert_eq!(granted(&cluster.need(2, 2), 2), ["a/1", "b/0"]);
}

#[test]
fn task_managers_that_stay_anyway_are_preferred_to_those_that_could_be_stopped() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.need(9, 2);
    cluster.register("p-1f-1", 2);
    cluster.need(9, 0);
    cluster.register("started-by-hand", 2);
    assert_eq!(granted(&cluster.need(1, 1), 1), ["started-by-hand/0"]);
}

#[test]
fn a_job_gets_all_it_lacks_or_waits_and_the_oldest_is_first() {
    let mut cluster = Cluster::with(options(&[]));
    cluster.register("a", 3);
    let effects = cluster.need(1, 4);
    assert!(granted(&effects, 1).is_empty());
    let wait = wait_of(&effects, 1).unwrap();
    assert_eq!((wait.needed, wait.granted, wait.available, wait.pending), (4, 0, 3, 0));
    // Needs more than the cluster has, so it delays nobody.
    assert_eq!(granted(&cluster.need(2, 2), 2).len(), 2);
    // There are four slots now, and the first job waits for two of them to be given back.
    let effects = cluster.register("b", 1);
    assert!(granted(&effects, 1).is_empty());
    let effects = cluster.need(3, 1);
    assert!(granted(&effects, 3).is_empty(), "it must not overtake");
    assert!(wait_of(&effects, 3).unwrap().reasons.iter().any(|reason| reason.contains("\"job 1\" waits for 4 slots")));
    let effects = cluster.need(2, 0);
    assert_eq!(granted(&effects, 1).len(), 4);
    assert!(granted(&effects, 3).is_empty());
    assert_eq!(granted(&cluster.event(Event::JobGone { job: job(1) }), 3).len(), 1);
}

#[test]
fn a_job_that_can_do_with_less_gets_what_there_is_and_more_as_it_comes() {
    let mut cluster = Cluster::with(options(&[]));
    let wait = wait_of(&cluster.could_use(1, 4, 2), 1).unwrap();
    assert_eq!((wait.needed, wait.granted), (4, 0));
    assert!(granted(&cluster.register("a", 1), 1).is_empty(), "not without what it cannot do without");
    assert_eq!(granted(&cluster.register("b", 1), 1), ["a/0", "b/0"]);
    assert_eq!(granted(&cluster.register("c", 1), 1), ["c/0"]);
    // What it could use does not keep others waiting, and it is not given more than that.
    assert_eq!(granted(&cluster.register("d", 3), 1).len(), 1);
    assert_eq!(granted(&cluster.need(2, 2), 2).len(), 2);
    assert!(granted(&cluster.could_use(1, 2, 1), 1).is_empty());
    assert_eq!(granted(&cluster.release(1, &[("c", 0), ("a", 0)]), 1), Vec::<String>::new());
    assert_eq!(cluster.manager.view().slots_available, 2);
}

#[test]
fn task_managers_are_asked_for_up_to_what_a_job_could_use() {
    let mut cluster = Cluster::with(crate::ResourceManagerOptions { max_slots: Some(4), ..options(&["p"]) });
    let effects = cluster.could_use(1, 9, 1);
    assert_eq!(requests(&effects), ["start p-1f-1", "start p-1f-2"], "the limit is no reason not to start any");
    let hopeless = wait_of(&cluster.could_use(2, 9, 5), 2).unwrap();
    assert!(hopeless.never.unwrap().contains("the job needs 5 slots, and there can be 4 at most"));
}

#[test]
fn a_later_job_may_pass_when_what_is_on_its_way_is_enough_for_both() {
    let mut cluster = Cluster::with(options(&["p"]));
    cluster.register("a", 1);
    // One more worker brings two slots: one too many.
    assert_eq!(requests(&cluster.need(1, 2)), ["start p-1f-1"]);
    let effects = cluster.need(2, 1);
    assert_eq!(granted(&effects, 2), ["a/0"]);
    assert!(requests(&effects).is_empty());
    assert_eq!(granted(&cluster.register("p-1f-1", 2), 1).len(), 2);
}

#[test]
fn slots_are_given_back_one_by_one_or_all_at_once() {
    let mut cluster = Cluster::with(options(&[]));
    cluster.register("a", 4);
    cluster.need(1, 4);
    cluster.need(1, 3);
    cluster.release(1, &[("a", 2)]);
    assert_eq!(granted(&cluster.need(2, 1), 2), ["a/2"]);
    // Not its own, not there, given back before.
    cluster.release(1, &[("a", 2), ("a", 9), ("b", 0)]);
    assert_eq!(cluster.manager.view().slots_available, 0);
    cluster.need(1, 0);
    assert_eq!(cluster.manager.view().slots_available, 3);
}

#[test]
fn without_providers_a_job_waits_for_task_managers_started_by_hand() {
    let mut cluster = Cluster::with(options(&[]));
    let wait = wait_of(&cluster.need(1, 1), 1).unwrap();
    assert!(wait.reasons[0].contains("by hand"), "{wait:?}");
    assert_eq!(wait.never, None);
    assert_eq!(granted(&cluster.register("a", 1), 1), ["a/0"]);
}

#[test]
fn a_wait_is_told_again_only_when_it_changes() {
    let mut cluster = Cluster::with(options(&[]));
    assert!(wait_of(&cluster.need(1, 2), 1).is_some());
    assert!(wait_of(&cluster.need(1, 2), 1).is_none());
    assert_eq!(wait_of(&cluster.register("a", 1), 1).unwrap().available, 1);
}

#[test]
fn a_need_beyond_every_limit_can_never_be_met() {
    let mut cluster = Cluster::with(crate::ResourceManagerOptions { max_slots: Some(5), ..options(&["p"]) });
    let effects = cluster.need(1, 5);
    let never = wait_of(&effects, 1).unwrap().never.unwrap();
    assert!(never.contains("needs 5 slots, and there can be 4 at most"), "{never}");
    assert!(never.contains("slotmanager.number-of-slots.max"), "{never}");
    assert!(requests(&effects).is_empty(), "nothing is started for it");
    let effects = cluster.need(2, 4);
    assert_eq!(wait_of(&effects, 2).unwrap().never, None);
    assert_eq!(requests(&effects), ["start p-1f-1", "start p-1f-2"]);
}
