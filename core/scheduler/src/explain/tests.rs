use weir_model::{OperatorId, Partitioner};

use super::*;
use crate::testing::{chain, job};

fn operator(name: &str, uid: Option<&str>, kind: OperatorKind) -> OperatorInfo {
    let id = OperatorId::from_seed(name.as_bytes());
    OperatorInfo { id, name: name.to_owned(), uid: uid.map(str::to_owned), kind }
}

fn wordcount() -> JobGraph {
    let mut graph = chain(&[2, 4], Partitioner::Hash);
    graph.name = "wordcount".to_owned();
    graph.vertices[0].name = "Lines -> Split".to_owned();
    graph.vertices[0].operators = vec![
        operator("Lines", Some("lines"), OperatorKind::Source { bounded: true }),
        operator("Split", None, OperatorKind::Transform),
    ];
    graph.vertices[1].name = "Count -> Print".to_owned();
    graph.vertices[1].operators =
        vec![operator("Count", None, OperatorKind::Transform), operator("Print", None, OperatorKind::Sink)];
    graph
}

/// Two sources into one join, which feeds two sinks, one of them by a side output.
fn diamond() -> JobGraph {
    use Partitioner::{Broadcast, Forward, Hash, Rebalance};
    let edges = [(0, 2, Hash), (1, 2, Broadcast), (2, 3, Forward), (2, 4, Rebalance)];
    let mut graph = job(&[2, 1, 3, 3, 1], &edges);
    graph.edges[1].target_input = 1;
    graph.edges[3].source_port = 1;
    graph.vertices[4].slot_sharing_group = "late".to_owned();
    graph
}

#[test]
fn a_chain_is_shown_from_its_sink() {
    let expect = "\
job wordcount (bounded): 2 vertices, 6 tasks, 4 slots

[1] Count -> Print  × 4 of 32768, slot group default
│    Count
│    Print (sink)
└─ HASH ─ [0] Lines -> Split  × 2 of 32768, slot group default
        Lines (bounded source) uid=lines
        Split
";
    assert_eq!(tree(&wordcount()), expect);
}

#[test]
fn inputs_ports_and_shared_vertices_are_told_apart() {
    let expect = "\
job test (bounded): 5 vertices, 10 tasks, 4 slots (default 3, late 1)

[3] V3  × 3 of 32768, slot group default
└─ FORWARD ─ [2] V2  × 3 of 32768, slot group default
   ├─ HASH input 0 ─ [0] V0  × 2 of 32768, slot group default
   └─ BROADCAST input 1 ─ [1] V1  × 1 of 32768, slot group default

[4] V4  × 1 of 32768, slot group late
└─ REBALANCE side output 1 ─ [2] V2 (shown above)
";
    assert_eq!(tree(&diamond()), expect);
}

#[test]
fn dot_shows_vertices_edges_and_groups() {
    let expect = r#"digraph job {
  label="wordcount";
  rankdir=LR;
  node [shape=box, fontname="sans-serif"];
  edge [fontname="sans-serif"];
    v0 [label="Lines (bounded source) uid=lines\nSplit\n× 2 of 32768"];
    v1 [label="Count\nPrint (sink)\n× 4 of 32768"];
  v0 -> v1 [label="HASH\nu64"];
}
"#;
    assert_eq!(dot(&wordcount()), expect);
    let clustered = dot(&diamond());
    assert!(clustered.contains("subgraph cluster_1 {\n    label=\"slot group late, 1 slot\";\n    v4 "), "{clustered}");
}

/// Reads DOT as Graphviz does outside of attribute names: strings end at the first unescaped quote, the rest is plain tokens.
fn assert_is_dot(text: &str) {
    let (mut braces, mut brackets, mut chars) = (0, 0, text.chars());
    while let Some(char) = chars.next() {
        match char {
            '"' => loop {
                match chars.next() {
                    Some('\\') => assert!(matches!(chars.next(), Some('\\' | '"' | 'n')), "a stray escape: {text}"),
                    Some('"') => break,
                    Some(char) => assert!(!char.is_control(), "a control character in a string: {text}"),
                    None => panic!("an open string: {text}"),
                }
            },
            '{' => braces += 1,
            '}' => braces -= 1,
            '[' => brackets += 1,
            ']' => brackets -= 1,
            char => assert!(char.is_ascii_alphanumeric() || "_-> =,;\n".contains(char), "{char:?} outside: {text}"),
        }
        assert!(braces >= 0 && (0..=1).contains(&brackets), "{text}");
    }
    assert_eq!((braces, brackets), (0, 0), "{text}");
}

#[test]
fn hostile_names_stay_inside_their_strings() {
    for name in ["a\"]; b", "back\\", "line\nbreak", "\u{1b}[2J", "<b>html</b>", "\\\"", "{}[]", "\\n", ""] {
        let mut graph = diamond();
        graph.name = name.to_owned();
        for vertex in &mut graph.vertices {
            vertex.name = name.to_owned();
            vertex.operators[0].name = name.to_owned();
            vertex.operators[0].uid = Some(name.to_owned());
            vertex.slot_sharing_group.push_str(name);
        }
        graph.edges[0].record_type = name.to_owned();
        assert_is_dot(&dot(&graph));
        let plan = tree(&graph);
        assert_eq!(plan.lines().count(), tree(&diamond()).lines().count() + 5, "{plan}");
        assert!(!plan.contains('\u{1b}'), "{plan}");
    }
}
