//! A large job takes memory by its tasks, not by its channels. Alone in its binary, because the allocator counts for all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weir_model::{JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Partitioner, VertexId};
use weir_scheduler::{Event, ExecutionGraph, JobScheduler, Regions, SchedulerOptions, SlotSharing, place};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's requirement.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the system allocator's requirement.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated by `work`, freed ones included.
fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let result = work();
    (result, ALLOCATED.load(Ordering::Relaxed) - before)
}

fn job(parallelism: u32) -> JobGraph {
    let vertex = |name: &str, kind| {
        let id = OperatorId::from_seed(name.as_bytes());
        JobVertex {
            id: VertexId::from(id),
            name: name.to_owned(),
            operators: vec![OperatorInfo { id, name: name.to_owned(), uid: None, kind }],
            parallelism,
            max_parallelism: 32_768,
            slot_sharing_group: "default".to_owned(),
        }
    };
    JobGraph {
        name: "large".to_owned(),
        vertices: vec![vertex("Source", OperatorKind::Source { bounded: true }), vertex("Sink", OperatorKind::Sink)],
        edges: vec![JobEdge {
            source: 0,
            source_port: 0,
            target: 1,
            target_input: 0,
            partitioner: Partitioner::Hash,
            record_type: "u64".to_owned(),
        }],
        config: Default::default(),
    }
}

#[test]
fn ten_thousand_by_ten_thousand_all_to_all_stays_small() {
    let job = job(10_000);
    let (graph, bytes) = allocated(|| ExecutionGraph::new(&job).unwrap());
    assert_eq!((graph.task_count(), graph.edges().len(), graph.channel_count()), (20_000, 1, 100_000_000));
    assert!(bytes < 8 * 1024, "the graph allocated {bytes} bytes");

    let (regions, bytes) = allocated(|| Regions::of(&graph));
    assert_eq!(regions.count(), 1);
    assert!(bytes < 20_000 * 16, "regions allocated {bytes} bytes");

    let (placement, bytes) = allocated(|| place(&graph, NonZeroU32::new(100).unwrap()));
    assert_eq!(SlotSharing::of(&graph).slots_needed(), 10_000);
    assert!(bytes < 20_000 * 64, "placement allocated {bytes} bytes");

    let (report, bytes) = allocated(|| {
        let mut scheduler = JobScheduler::new(graph, SchedulerOptions::default());
        scheduler.on_event(Event::Start, Duration::ZERO);
        scheduler.on_event(Event::Placed { deployment: 0, placement }, Duration::ZERO);
        let tasks: Vec<_> = scheduler.graph().tasks().collect();
        for &task in &tasks {
            scheduler.on_event(Event::TaskRunning { deployment: 0, task }, Duration::ZERO);
        }
        for &task in &tasks {
            scheduler.on_event(Event::TaskFinished { deployment: 0, task }, Duration::ZERO);
        }
        scheduler.on_event(Event::CommitDone(Ok(())), Duration::ZERO).pop()
    });
    assert!(report.is_some());
    assert!(bytes < 20_000 * 256, "a whole life allocated {bytes} bytes");
}
