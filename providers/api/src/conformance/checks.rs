//! The checks.

use super::session::Bench;
use super::{Check, Level};
use crate::{Capability, ProviderRequest, TaskManagerId};

type Result = std::result::Result<(), String>;

/// All checks, the simple ones first.
pub(super) const ALL: &[Check] = &[
    basic("describes-itself", describes_itself),
    basic("recovers-nothing-in-a-new-cluster", recovers_nothing_in_a_new_cluster),
    basic("starts-and-stops-a-worker", starts_and_stops_a_worker),
    basic("ignores-workers-it-does-not-know", ignores_workers_it_does_not_know),
    basic("reports-a-command-that-cannot-start", reports_a_command_that_cannot_start),
    basic("reports-a-worker-that-exits", reports_a_worker_that_exits),
    basic("takes-a-hint-of-demand", takes_a_hint_of_demand),
    basic("shutdown-stops-workers", shutdown_stops_workers),
    basic("shutdown-can-leave-workers", shutdown_can_leave_workers),
    full("opens-again-after-closing", opens_again_after_closing),
    full("keeps-two-clusters-apart", keeps_two_clusters_apart),
    full("names-the-exit-status", names_the_exit_status),
    full("names-the-signal", names_the_signal),
    full("stops-a-worker-that-is-starting", stops_a_worker_that_is_starting),
    full("stops-once-when-told-twice", stops_once_when_told_twice),
    full("starts-while-stopping", starts_while_stopping),
    full("stops-a-stubborn-worker", stops_a_stubborn_worker),
    full("starts-many-at-once", starts_many_at_once),
    with(Capability::Recover, "recovers-workers-that-were-left", recovers_workers_that_were_left),
    with(Capability::Recover, "recovers-after-being-dropped", recovers_after_being_dropped),
    with(Capability::Recover, "does-not-recover-what-has-ended", does_not_recover_what_has_ended),
    with(Capability::Recover, "does-not-recover-another-cluster", does_not_recover_another_cluster),
    with(Capability::Capacity, "refuses-more-than-its-capacity", refuses_more_than_its_capacity),
];

const fn basic(name: &'static str, run: fn(&Bench<'_>) -> Result) -> Check {
    Check { name, level: Level::Basic, needs: None, run }
}

const fn full(name: &'static str, run: fn(&Bench<'_>) -> Result) -> Check {
    Check { name, level: Level::Full, needs: None, run }
}

const fn with(capability: Capability, name: &'static str, run: fn(&Bench<'_>) -> Result) -> Check {
    Check { name, level: Level::Full, needs: Some(capability), run }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn describes_itself(bench: &Bench<'_>) -> Result {
    let description = bench.factory.describe();
    if let Some(problem) = description.problem() {
        return Err(problem);
    }
    expect(bench.factory.describe() == description, || "it describes itself differently each time".to_owned())
}

fn recovers_nothing_in_a_new_cluster(bench: &Bench<'_>) -> Result {
    bench.open_new()?.finish()
}

fn starts_and_stops_a_worker(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.listen_to_silence();
    expect(session.runs(&id), || "the worker ended although nobody stopped it".to_owned())?;
    session.stop(&id)?;
    session.wait_terminated(&id)?;
    session.listen_to_silence();
    session.finish()
}

fn ignores_workers_it_does_not_know(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    session.stop(&TaskManagerId::new("a-worker-that-never-was"))?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.stop(&id)?;
    session.wait_terminated(&id)?;
    // It has ended, so nothing may come of this.
    session.stop(&id)?;
    session.listen_to_silence();
    session.finish()
}

fn reports_a_command_that_cannot_start(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start(bench.worker(&bench.setup.cannot_start))?;
    session.wait_terminated(&id)?;
    session.finish()
}

fn reports_a_worker_that_exits(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start(bench.worker(&bench.setup.exits))?;
    session.wait_terminated(&id)?;
    session.finish()
}

fn takes_a_hint_of_demand(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    session.request(ProviderRequest::DeclareDemand { workers: 1 })?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.request(ProviderRequest::DeclareDemand { workers: 0 })?;
    session.listen_to_silence();
    expect(session.runs(&id), || "a hint of less demand ended a worker".to_owned())?;
    session.finish()
}

fn shutdown_stops_workers(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    session.start_and_wait(bench.lasting_worker())?;
    // This one may be anywhere on its way.
    session.start(bench.lasting_worker())?;
    session.shut_down(true)
}

fn shutdown_can_leave_workers(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    let (mut session, _) = bench.open(&cluster)?;
    if !bench.factory.describe().capabilities.contains(&Capability::Recover) {
        // Nobody could stop a worker that was left.
        return session.shut_down(false);
    }
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.shut_down(false)?;
    let (session, recovered) = bench.open(&cluster)?;
    expect(recovered.iter().any(|worker| worker.id == id), || format!("{id} was to be left but is gone"))?;
    session.finish()
}

fn opens_again_after_closing(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    for _ in 0..2 {
        let (mut session, recovered) = bench.open(&cluster)?;
        expect(recovered.is_empty(), || format!("it recovered workers it had stopped: {recovered:?}"))?;
        session.start_and_wait(bench.lasting_worker())?;
        session.finish()?;
    }
    Ok(())
}

fn keeps_two_clusters_apart(bench: &Bench<'_>) -> Result {
    let (mut one, mut other) = (bench.open_new()?, bench.open_new()?);
    let id = one.start_and_wait(bench.lasting_worker())?;
    let kept = other.start_and_wait(bench.lasting_worker())?;
    other.stop(&id)?;
    one.finish()?;
    other.listen_to_silence();
    expect(other.runs(&kept), || "a worker of one cluster ended when another cluster was shut down".to_owned())?;
    other.finish()
}

fn names_the_exit_status(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start(bench.worker(&bench.setup.exits))?;
    let reason = session.wait_terminated(&id)?;
    expect(reason.contains('7'), || format!("the reason {reason:?} does not name the exit status 7"))?;
    session.finish()
}

fn names_the_signal(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start(bench.worker(&bench.setup.kills_itself))?;
    let reason = session.wait_terminated(&id)?;
    // Containers report it as exit code 128 + 9.
    let named = reason.contains("signal 9") || reason.contains("KILL") || reason.contains("137");
    expect(named, || format!("the reason {reason:?} does not name signal 9, SIGKILL"))?;
    session.finish()
}

fn stops_a_worker_that_is_starting(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start(bench.lasting_worker())?;
    session.stop(&id)?;
    session.wait_terminated(&id)?;
    session.listen_to_silence();
    session.finish()
}

fn stops_once_when_told_twice(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.stop(&id)?;
    session.stop(&id)?;
    session.wait_terminated(&id)?;
    session.listen_to_silence();
    session.finish()
}

fn starts_while_stopping(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let stubborn = session.start_and_wait(bench.worker(&bench.setup.stubborn))?;
    // It has to run a moment before it is deaf.
    session.listen_to_silence();
    session.stop(&stubborn)?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.wait_terminated(&stubborn)?;
    expect(session.runs(&id), || "stopping one worker ended another".to_owned())?;
    session.finish()
}

fn stops_a_stubborn_worker(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    session.start_and_wait(bench.worker(&bench.setup.stubborn))?;
    session.listen_to_silence();
    session.shut_down(true)
}

fn starts_many_at_once(bench: &Bench<'_>) -> Result {
    let mut session = bench.open_new()?;
    let started = (0..bench.setup.many).map(|_| session.start(bench.lasting_worker()));
    let ids = started.collect::<std::result::Result<Vec<_>, _>>()?;
    ids.iter().try_for_each(|id| session.wait_ready(id))?;
    ids.iter().try_for_each(|id| session.stop(id))?;
    ids.iter().try_for_each(|id| session.wait_terminated(id).map(drop))?;
    session.finish()
}

fn recovers_workers_that_were_left(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    let (mut session, _) = bench.open(&cluster)?;
    let one = session.start_and_wait(bench.lasting_worker())?;
    let two = session.start_and_wait(bench.lasting_worker())?;
    session.shut_down(false)?;

    let (mut session, recovered) = bench.open(&cluster)?;
    for id in [&one, &two] {
        let worker = recovered.iter().find(|worker| worker.id == *id);
        let worker = worker.ok_or_else(|| format!("{id} was left running but not recovered: {recovered:?}"))?;
        let (found, expected) = (worker.slots, bench.setup.template.slots);
        expect(found == expected, || format!("{id} was recovered with {found} slots, but has {expected}"))?;
    }
    expect(recovered.len() == 2, || format!("more was recovered than there is: {recovered:?}"))?;
    session.stop(&one)?;
    session.wait_terminated(&one)?;
    expect(session.runs(&two), || "stopping one recovered worker ended another".to_owned())?;
    let third = session.start_and_wait(bench.lasting_worker())?;
    session.stop(&third)?;
    session.wait_terminated(&third)?;
    session.finish()
}

fn recovers_after_being_dropped(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    let (mut session, _) = bench.open(&cluster)?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    session.abandon();

    let (mut session, recovered) = bench.open(&cluster)?;
    expect(recovered.iter().any(|worker| worker.id == id), || format!("{id} was lost: {recovered:?}"))?;
    session.stop(&id)?;
    session.wait_terminated(&id)?;
    session.finish()
}

fn does_not_recover_what_has_ended(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    let (mut session, _) = bench.open(&cluster)?;
    let stopped = session.start_and_wait(bench.lasting_worker())?;
    session.stop(&stopped)?;
    session.wait_terminated(&stopped)?;
    let failed = session.start(bench.worker(&bench.setup.cannot_start))?;
    session.wait_terminated(&failed)?;
    session.shut_down(false)?;

    let (session, recovered) = bench.open(&cluster)?;
    expect(recovered.is_empty(), || format!("it recovered workers that had ended: {recovered:?}"))?;
    session.finish()
}

fn does_not_recover_another_cluster(bench: &Bench<'_>) -> Result {
    let cluster = bench.new_cluster();
    let (mut session, _) = bench.open(&cluster)?;
    let id = session.start_and_wait(bench.lasting_worker())?;
    // Recovers nothing, and stops what it has recovered.
    bench.open_new()?.finish()?;
    expect(session.runs(&id), || "another cluster stopped a worker of this one".to_owned())?;
    session.finish()
}

fn refuses_more_than_its_capacity(bench: &Bench<'_>) -> Result {
    const MOST: u32 = 16;
    let mut session = bench.open_new()?;
    let capacity = session.wait("Capacity", |seen| seen.capacity)?;
    let Some(capacity) = capacity.filter(|capacity| *capacity <= MOST) else { return session.finish() };
    let started = (0..capacity).map(|_| session.start_and_wait(bench.lasting_worker()));
    let ids = started.collect::<std::result::Result<Vec<_>, _>>()?;
    let refused = session.start(bench.lasting_worker())?;
    session.wait_terminated(&refused)?;
    expect(ids.iter().all(|id| session.runs(id)), || "one worker too many ended another".to_owned())?;
    session.stop(&ids[0])?;
    session.wait_terminated(&ids[0])?;
    session.start_and_wait(bench.lasting_worker())?;
    session.finish()
}
