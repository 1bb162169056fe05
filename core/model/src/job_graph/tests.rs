use proptest::prelude::*;

use super::*;

fn operator(name: &str, kind: OperatorKind) -> OperatorInfo {
    OperatorInfo { id: OperatorId::from_seed(name.as_bytes()), name: name.to_owned(), uid: None, kind }
}

fn vertex(operators: Vec<OperatorInfo>, parallelism: u32) -> JobVertex {
    let name = operators.iter().map(|operator| operator.name.as_str()).collect::<Vec<_>>().join(" -> ");
    JobVertex {
        id: VertexId::from_seed(name.as_bytes()),
        name,
        operators,
        parallelism,
        max_parallelism: 128,
        slot_sharing_group: "default".to_owned(),
    }
}

fn edge(source: u32, target: u32, partitioner: Partitioner) -> JobEdge {
    JobEdge { source, source_port: 0, target, target_input: 0, partitioner, record_type: "String".to_owned() }
}

/// Source → Count, Print.
fn graph() -> JobGraph {
    JobGraph {
        name: "wordcount".to_owned(),
        vertices: vec![
            vertex(vec![operator("Lines", OperatorKind::Source { bounded: true })], 2),
            vertex(vec![operator("Count", OperatorKind::Transform), operator("Print", OperatorKind::Sink)], 3),
        ],
        edges: vec![edge(0, 1, Partitioner::Hash)],
        config: BTreeMap::new(),
    }
}

#[test]
fn a_sound_graph_is_accepted() {
    assert_eq!(graph().validate(), Ok(()));
}

#[test]
fn what_is_wrong_is_said_by_name_and_with_a_remedy() {
    let check = |spoil: &dyn Fn(&mut JobGraph), expect: &[&str]| {
        let mut graph = graph();
        spoil(&mut graph);
        let message = graph.validate().expect_err("a spoilt graph").to_string();
        for part in expect {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    };
    check(&|graph| graph.vertices.clear(), &["\"wordcount\"", "no operators", "add a source"]);
    check(&|graph| graph.vertices[0].operators.clear(), &["vertex 0", "\"Lines\""]);
    check(&|graph| graph.vertices[0].parallelism = 0, &["\"Lines\"", "parallelism 0", "--parallelism"]);
    check(&|graph| graph.vertices[1].parallelism = 129, &["\"Count -> Print\"", "129", "max-parallelism 128"]);
    check(&|graph| graph.vertices[1].max_parallelism = 0, &["max-parallelism 0", "32768"]);
    check(&|graph| graph.vertices[1].max_parallelism = 32_769, &["max-parallelism 32769", "32768"]);
    check(&|graph| graph.edges[0].target = 2, &["vertex 2", "2 vertices"]);
    check(&|graph| graph.edges[0].source = 7, &["vertex 7", "2 vertices"]);
    check(&|graph| graph.edges[0].source = 1, &["\"Count -> Print\"", "no cycles"]);
    check(
        &|graph| graph.edges[0] = edge(0, 1, Partitioner::Forward),
        &["parallelism 2", "parallelism 3", "`.rebalance()`"],
    );
    check(
        &|graph| {
            graph.vertices[0].operators[0].uid = Some("a".to_owned());
            graph.vertices[1].operators[1].uid = Some("a".to_owned());
        },
        &["\"Lines\"", "\"Print\"", "uid \"a\""],
    );
    check(
        &|graph| graph.vertices[1].operators[0].id = graph.vertices[0].operators[0].id,
        &["\"Lines\"", "\"Count\"", "same id"],
    );
    check(&|graph| graph.vertices[1].id = graph.vertices[0].id, &["vertices \"Lines\"", "same id"]);
    check(&|graph| drop(graph.vertices[1].operators.pop()), &["\"Count\"", "goes nowhere", "`.print()`"]);
    check(&|graph| graph.edges.clear(), &["\"Lines\"", "goes nowhere"]);
}

#[test]
fn edges_are_found_from_both_ends() {
    let graph = graph();
    assert_eq!(graph.in_edges(1).collect::<Vec<_>>(), [&graph.edges[0]]);
    assert_eq!(graph.out_edges(0).collect::<Vec<_>>(), [&graph.edges[0]]);
    assert_eq!(graph.in_edges(0).count() + graph.out_edges(1).count(), 0);
    assert_eq!(graph.task_count(), 5);
    assert!(graph.is_bounded());
}

#[test]
fn rescale_connects_the_subtasks_flink_connects() {
    let check = |producers, consumers, expect: &[(u32, u32)]| {
        let found: Vec<_> = (0..producers)
            .map(|subtask| DistributionPattern::Pointwise.consumers(subtask, producers, consumers))
            .map(|range| (range.start, range.end))
            .collect();
        assert_eq!(found, expect, "{producers} to {consumers}");
    };
    check(1, 3, &[(0, 3)]);
    check(2, 4, &[(0, 2), (2, 4)]);
    check(2, 3, &[(0, 2), (2, 3)]);
    check(4, 2, &[(0, 1), (0, 1), (1, 2), (1, 2)]);
    check(3, 3, &[(0, 1), (1, 2), (2, 3)]);
}

fn any_pattern() -> impl Strategy<Value = DistributionPattern> {
    prop_oneof![Just(DistributionPattern::AllToAll), Just(DistributionPattern::Pointwise)]
}

proptest! {
    #[test]
    fn consumers_and_producers_are_inverse_and_leave_nobody_out(
        pattern in any_pattern(),
        producers in 1u32..60,
        consumers in 1u32..60,
    ) {
        for producer in 0..producers {
            let range = pattern.consumers(producer, producers, consumers);
            prop_assert!(!range.is_empty() && range.end <= consumers);
            for consumer in 0..consumers {
                let back = pattern.producers(consumer, producers, consumers);
                prop_assert_eq!(range.contains(&consumer), back.contains(&producer));
            }
        }
        for consumer in 0..consumers {
            let range = pattern.producers(consumer, producers, consumers);
            prop_assert!(!range.is_empty() && range.end <= producers);
        }
    }
}
