//! Jobs for the end-to-end tests: what operators and exchanges do, plans, and everything that can go wrong.

mod allocating;
mod blocking;
mod clustered;
mod deadly;
mod exactly_once;
mod exchanges;
mod measured;
mod operators;
mod own_source;
mod panicking;
mod plans;
mod sources_and_sinks;
mod stateful;
mod unbuildable;
mod windowed;

use allocating::{giant, hoards};
use blocking::{blocks, slow, waits};
use clustered::{all_to_all, fails_at_first, idles, lasts, regions, ticks};
use deadly::{crashes, floods_stdout, forks, ignores_cancel};
use exactly_once::{remembers, tallies};
use exchanges::exchanges;
use measured::measured;
use operators::operators;
use own_source::own_source;
use panicking::panics;
use plans::plan;
use sources_and_sinks::{large, numbers, prints, trickle, updates};
use stateful::{lines, versions, window_counts};
use unbuildable::{
    above_max, again_uid, builder_aborts, builder_exits, builder_hangs, builder_hoards, builder_panics, clashes,
    no_sink, no_source, random, refuses, unread_share, unread_side, zero,
};
use windowed::windowed;

weir::main!(
    operators,
    exchanges,
    own_source,
    plan,
    numbers,
    prints,
    updates,
    trickle,
    large,
    panics,
    builder_panics,
    builder_aborts,
    builder_exits,
    builder_hangs,
    builder_hoards,
    crashes,
    forks,
    floods_stdout,
    ignores_cancel,
    idles,
    ticks,
    lasts,
    all_to_all,
    regions,
    fails_at_first,
    tallies,
    remembers,
    measured,
    lines,
    window_counts,
    versions,
    blocks,
    slow,
    waits,
    hoards,
    giant,
    random,
    no_sink,
    no_source,
    unread_side,
    unread_share,
    again_uid,
    zero,
    above_max,
    refuses,
    clashes,
    windowed,
);
