//! A job's plan for people (`tree`) and for Graphviz (`dot`).

use std::collections::HashSet;
use std::fmt::{self, Write};

use weir_model::{JobEdge, JobGraph, JobVertex, OperatorInfo, OperatorKind};

use crate::SlotSharing;

/// The plan as a tree from the sinks down to the sources.
///
/// A vertex that feeds several others is drawn where it occurs first, and referred to by its number after that. The graph must be a
/// valid one ([`JobGraph::validate`]).
pub fn tree(graph: &JobGraph) -> String {
    let mut out = String::new();
    Tree { graph, shown: HashSet::new(), out: &mut out }.write().expect("a String takes all that is written");
    out
}

/// The plan in Graphviz' DOT language, for `dot -Tsvg`. Slot sharing groups are clusters when there are several.
pub fn dot(graph: &JobGraph) -> String {
    let mut out = String::new();
    write_dot(graph, &mut out).expect("a String takes all that is written");
    out
}

fn slot_sharing(graph: &JobGraph) -> SlotSharing {
    let vertices = graph.vertices.iter();
    SlotSharing::of_vertices(vertices.map(|vertex| (vertex.slot_sharing_group.as_str(), vertex.parallelism)))
}

struct Tree<'a> {
    graph: &'a JobGraph,
    shown: HashSet<u32>,
    out: &'a mut String,
}

impl Tree<'_> {
    fn write(mut self) -> fmt::Result {
        let graph = self.graph;
        self.write_header()?;
        let consumed: HashSet<u32> = graph.edges.iter().map(|edge| edge.source).collect();
        for vertex in (0..graph.vertices.len() as u32).filter(|vertex| !consumed.contains(vertex)) {
            writeln!(self.out)?;
            self.write_vertex(vertex, "", "")?;
        }
        Ok(())
    }

    fn write_header(&mut self) -> fmt::Result {
        let sharing = slot_sharing(self.graph);
        let kind = if self.graph.is_bounded() { "bounded" } else { "unbounded" };
        write!(
            self.out,
            "job {} ({kind}): {}, {}, {}",
            one_line(&self.graph.name),
            count(self.graph.vertices.len() as u64, "vertex", "vertices"),
            count(self.graph.task_count(), "task", "tasks"),
            count(sharing.slots_needed().into(), "slot", "slots"),
        )?;
        if let groups @ [_, _, ..] = sharing.groups() {
            let each = groups.iter().map(|group| format!("{} {}", one_line(&group.name), group.slots.len()));
            write!(self.out, " ({})", each.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(self.out)
    }

    /// `lead` stands before the vertex's own line, `indent` before those that follow.
    fn write_vertex(&mut self, position: u32, lead: &str, indent: &str) -> fmt::Result {
        let graph = self.graph;
        let vertex = &graph.vertices[position as usize];
        let name = one_line(&vertex.name);
        if !self.shown.insert(position) {
            return writeln!(self.out, "{lead}[{position}] {name} (shown above)");
        }
        writeln!(
            self.out,
            "{lead}[{position}] {name}  × {} of {}, slot group {}",
            vertex.parallelism,
            vertex.max_parallelism,
            one_line(&vertex.slot_sharing_group)
        )?;
        let inputs: Vec<_> = graph.in_edges(position).collect();
        self.write_operators(vertex, indent, !inputs.is_empty())?;
        for (index, edge) in inputs.iter().enumerate() {
            let last = index + 1 == inputs.len();
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let lead = format!("{indent}{branch}{} ─ ", edge_label(edge, &inputs));
            self.write_vertex(edge.source, &lead, &format!("{indent}{below}"))?;
        }
        Ok(())
    }

    fn write_operators(&mut self, vertex: &JobVertex, indent: &str, has_inputs: bool) -> fmt::Result {
        // A single operator without a uid would only repeat the vertex's line.
        if let [only] = vertex.operators.as_slice()
            && only.uid.is_none()
            && only.name == vertex.name
        {
            return Ok(());
        }
        let bar = if has_inputs { "│" } else { " " };
        for operator in &vertex.operators {
            writeln!(self.out, "{indent}{bar}    {}", operator_label(operator))?;
        }
        Ok(())
    }
}

fn operator_label(operator: &OperatorInfo) -> String {
    let kind = match operator.kind {
        OperatorKind::Source { bounded: true } => " (bounded source)",
        OperatorKind::Source { bounded: false } => " (unbounded source)",
        OperatorKind::Transform => "",
        OperatorKind::Sink => " (sink)",
    };
    let uid = operator.uid.as_ref().map(|uid| format!(" uid={}", one_line(uid))).unwrap_or_default();
    format!("{}{kind}{uid}", one_line(&operator.name))
}

/// The partitioner, with the ports where they are not the only ones.
fn edge_label(edge: &JobEdge, siblings: &[&JobEdge]) -> String {
    let mut label = edge.partitioner.name().to_owned();
    if siblings.iter().any(|sibling| sibling.target_input != 0) {
        let _ = write!(label, " input {}", edge.target_input);
    }
    if edge.source_port != 0 {
        let _ = write!(label, " side output {}", edge.source_port);
    }
    label
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Control characters, line ends among them, would tear a tree apart or reach the terminal as commands.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn write_dot(graph: &JobGraph, out: &mut String) -> fmt::Result {
    writeln!(out, "digraph job {{")?;
    writeln!(out, "  label={};", quoted(&[&graph.name]))?;
    writeln!(out, "  rankdir=LR;")?;
    writeln!(out, "  node [shape=box, fontname=\"sans-serif\"];")?;
    writeln!(out, "  edge [fontname=\"sans-serif\"];")?;
    let sharing = slot_sharing(graph);
    let clustered = sharing.groups().len() > 1;
    for (index, group) in sharing.groups().iter().enumerate() {
        if clustered {
            let slots = count(group.slots.len() as u64, "slot", "slots");
            writeln!(out, "  subgraph cluster_{index} {{")?;
            writeln!(out, "    label={};", quoted(&[&format!("slot group {}, {slots}", group.name)]))?;
        }
        for &position in &group.vertices {
            writeln!(out, "    v{position} [label={}];", vertex_label(&graph.vertices[position as usize]))?;
        }
        if clustered {
            writeln!(out, "  }}")?;
        }
    }
    for edge in &graph.edges {
        let siblings: Vec<_> = graph.in_edges(edge.target).collect();
        let label = quoted(&[&edge_label(edge, &siblings), &edge.record_type]);
        writeln!(out, "  v{} -> v{} [label={label}];", edge.source, edge.target)?;
    }
    writeln!(out, "}}")
}

fn vertex_label(vertex: &JobVertex) -> String {
    let mut lines: Vec<_> = vertex.operators.iter().map(operator_label).collect();
    lines.push(format!("× {} of {}", vertex.parallelism, vertex.max_parallelism));
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    quoted(&lines)
}

/// Lines as one double-quoted DOT string. Backslashes too are escaped: in labels Graphviz gives them a meaning.
fn quoted(lines: &[&str]) -> String {
    let escape = |line: &&str| one_line(line).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", lines.iter().map(escape).collect::<Vec<_>>().join("\\n"))
}

#[cfg(test)]
mod tests;
