//! A job's graph as dashboards draw it.

use serde::Serialize;
use weir_model::{JobEdge, JobGraph, JobId, JobVertex};

use crate::answer::Empty;

/// A job's graph.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    jid: String,
    name: String,
    #[serde(rename = "type")]
    job_type: &'static str,
    /// In topological order.
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    id: String,
    parallelism: u32,
    operator: &'static str,
    operator_strategy: &'static str,
    /// HTML.
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Input>,
    optimizer_properties: Empty,
    /// Not in Flink: with it, a client knows how many slots the job needs.
    #[serde(rename = "slotSharingGroup")]
    slot_sharing_group: String,
}

#[derive(Debug, Serialize)]
struct Input {
    num: usize,
    id: String,
    ship_strategy: &'static str,
    exchange: &'static str,
}

impl Plan {
    pub(crate) fn of(id: JobId, graph: &JobGraph) -> Self {
        let mut inputs = graph.vertices.iter().map(|_| Vec::new()).collect::<Vec<Vec<Input>>>();
        for edge in &graph.edges {
            if let Some(inputs) = inputs.get_mut(edge.target as usize) {
                inputs.extend(Input::of(inputs.len(), edge, graph));
            }
        }
        let nodes = graph.vertices.iter().zip(inputs).map(|(vertex, inputs)| Node::of(vertex, inputs)).collect();
        Self { jid: id.to_string(), name: graph.name.clone(), job_type: job_type(graph.is_bounded()), nodes }
    }
}

impl Node {
    fn of(vertex: &JobVertex, inputs: Vec<Input>) -> Self {
        Self {
            id: vertex.id.to_string(),
            parallelism: vertex.parallelism,
            // Empty for streaming jobs of Flink too.
            operator: "",
            operator_strategy: "",
            description: description(vertex),
            inputs,
            optimizer_properties: Empty {},
            slot_sharing_group: vertex.slot_sharing_group.clone(),
        }
    }
}

impl Input {
    fn of(num: usize, edge: &JobEdge, graph: &JobGraph) -> Option<Self> {
        let source = graph.vertices.get(edge.source as usize)?;
        let ship_strategy = edge.partitioner.name();
        Some(Self { num, id: source.id.to_string(), ship_strategy, exchange: "pipelined_bounded" })
    }
}

/// A job whose sources all end is what Flink calls a batch job.
pub(crate) fn job_type(bounded: bool) -> &'static str {
    if bounded { "BATCH" } else { "STREAMING" }
}

/// The chain as a tree of its operators, one a line.
fn description(vertex: &JobVertex) -> String {
    let line = |(depth, name): (usize, &str)| match depth {
        0 => format!("{}<br/>", escape(name)),
        depth => format!("{}+- {}<br/>", "   ".repeat(depth - 1), escape(name)),
    };
    vertex.operators.iter().map(|operator| operator.name.as_str()).enumerate().map(line).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_bring_markup_into_a_page() {
        assert_eq!(
            escape("<img src=x onerror='a()'> & \"b\""),
            "&lt;img src=x onerror=&#39;a()&#39;&gt; &amp; &quot;b&quot;"
        );
    }
}
