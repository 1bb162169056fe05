//! `weir rescale`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_config::Configuration;

use crate::arguments::{OutputFormat, RescaleArgs};
use crate::client::Client;
use crate::failure::{self, usage};
use crate::text;

/// Between which numbers of subtasks vertices run, by their ids.
type Requirements = BTreeMap<String, Requirement>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Requirement {
    parallelism: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounds {
    lower_bound: u32,
    upper_bound: u32,
}

/// A vertex in `/jobs/:jobid`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vertex {
    id: String,
    name: String,
    parallelism: u32,
    built_parallelism: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Job {
    vertices: Vec<Vertex>,
}

pub(crate) async fn rescale(arguments: &RescaleArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let job = client.find_job(&arguments.job).await?;
    let path = format!("/jobs/{}/resource-requirements", job.jid);
    let Job { vertices } = client.get(&format!("/jobs/{}", job.jid)).await?;
    let mut requirements: Requirements = client.get(&path).await?;
    let asks = arguments.parallelism.is_some() || !arguments.vertex.is_empty();
    if asks {
        if let Some(parallelism) = arguments.parallelism {
            ask_for_all(&mut requirements, &vertices, parallelism, arguments.at_least);
        }
        for text in &arguments.vertex {
            ask_for_one(&mut requirements, &vertices, text)?;
        }
        client.put(&path, &json!(requirements)).await?;
    }
    text::print(&show(&job.name, &job.jid, asks, &vertices, &requirements, arguments.cluster.output))?;
    Ok(failure::OK)
}

/// Gives the vertices that were built as wide as any these bounds. What was built narrower, e.g. a sink of one task, is so for a reason.
fn ask_for_all(requirements: &mut Requirements, vertices: &[Vertex], upper: u32, lower: Option<u32>) {
    let built = |vertex: &Vertex| vertex.built_parallelism.unwrap_or(vertex.parallelism);
    let widest = vertices.iter().map(built).max();
    for vertex in vertices.iter().filter(|vertex| Some(built(vertex)) == widest) {
        if let Some(requirement) = requirements.get_mut(&vertex.id) {
            let lower = lower.unwrap_or_else(|| requirement.parallelism.lower_bound.min(upper));
            requirement.parallelism = Bounds { lower_bound: lower, upper_bound: upper };
        }
    }
}

/// `VERTEX=N` or `VERTEX=L..N`. Names of vertices may have an equals sign in them.
fn ask_for_one(requirements: &mut Requirements, vertices: &[Vertex], text: &str) -> anyhow::Result<()> {
    let wrong = |problem: String| usage(format!("--vertex is {text:?}: {problem}; expected VERTEX=N or VERTEX=L..N"));
    let (named, bounds) = text.rsplit_once('=').ok_or_else(|| wrong("it has no `=`".to_owned()))?;
    let vertex = find(vertices, named).map_err(wrong)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong(format!("{text:?} is no number of subtasks")));
    let Some(requirement) = requirements.get_mut(&vertex.id) else { return Ok(()) };
    requirement.parallelism = match bounds.split_once("..") {
        Some((lower, upper)) => Bounds { lower_bound: number(lower)?, upper_bound: number(upper)? },
        None => {
            let upper_bound = number(bounds)?;
            Bounds { lower_bound: requirement.parallelism.lower_bound.min(upper_bound), upper_bound }
        }
    };
    Ok(())
}

fn find<'a>(vertices: &'a [Vertex], named: &str) -> Result<&'a Vertex, String> {
    let by_name: Vec<&Vertex> = vertices.iter().filter(|vertex| vertex.name == named).collect();
    let by_id = || vertices.iter().filter(|vertex| named.len() >= 4 && vertex.id.starts_with(&named.to_lowercase()));
    let found = if by_name.is_empty() { by_id().collect() } else { by_name };
    match found[..] {
        [vertex] => Ok(vertex),
        [] => {
            let names: Vec<&str> = vertices.iter().map(|vertex| vertex.name.as_str()).collect();
            Err(format!("the job has no vertex {named:?}, but {}", names.join(", ")))
        }
        _ => Err(format!("{} vertices are {named:?}; name one by its id", found.len())),
    }
}

fn show(
    name: &str,
    id: &str,
    asked: bool,
    vertices: &[Vertex],
    requirements: &Requirements,
    format: OutputFormat,
) -> String {
    let bounds = |vertex: &Vertex| requirements.get(&vertex.id).map(|requirement| requirement.parallelism);
    if format == OutputFormat::Json {
        let rows = vertices.iter().map(|vertex| {
            let Bounds { lower_bound, upper_bound } =
                bounds(vertex).unwrap_or(Bounds { lower_bound: vertex.parallelism, upper_bound: vertex.parallelism });
            json!({ "id": vertex.id, "name": vertex.name, "subtasks": vertex.parallelism, "least": lower_bound, "most": upper_bound })
        });
        return format!("{}\n", json!({ "job": id, "asked": asked, "vertices": rows.collect::<Vec<Value>>() }));
    }
    let mut rows = vec![["ID", "SUBTASKS", "LEAST", "MOST", "VERTEX"].map(str::to_owned).to_vec()];
    for vertex in vertices {
        let number = |of: fn(Bounds) -> u32| bounds(vertex).map_or_else(String::new, |bounds| of(bounds).to_string());
        rows.push(vec![
            vertex.id[..vertex.id.len().min(8)].to_owned(),
            vertex.parallelism.to_string(),
            number(|bounds| bounds.lower_bound),
            number(|bounds| bounds.upper_bound),
            vertex.name.clone(),
        ]);
    }
    let head = if asked {
        format!("the job {name} ({id}) is to run between these numbers of subtasks; `weir status` shows when it does\n")
    } else {
        String::new()
    };
    head + &text::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertices() -> Vec<Vertex> {
        let vertex = |id: &str, name: &str, built| Vertex {
            id: id.to_owned(),
            name: name.to_owned(),
            parallelism: 1,
            built_parallelism: Some(built),
        };
        vec![vertex("aaaa1111", "Source: a=b", 4), vertex("aaaa2222", "Count", 4), vertex("bbbb3333", "Sink", 1)]
    }

    fn requirements() -> Requirements {
        let bounds = |vertex: &Vertex| Bounds { lower_bound: 1, upper_bound: vertex.built_parallelism.unwrap_or(1) };
        vertices().iter().map(|vertex| (vertex.id.clone(), Requirement { parallelism: bounds(vertex) })).collect()
    }

    fn found(requirements: &Requirements) -> Vec<(u32, u32)> {
        requirements.values().map(|one| (one.parallelism.lower_bound, one.parallelism.upper_bound)).collect()
    }

    #[test]
    fn vertices_that_were_built_narrow_stay_so() {
        let mut all = requirements();
        ask_for_all(&mut all, &vertices(), 2, None);
        assert_eq!(found(&all), [(1, 2), (1, 2), (1, 1)]);
        ask_for_all(&mut all, &vertices(), 8, Some(3));
        assert_eq!(found(&all), [(3, 8), (3, 8), (1, 1)]);
        ask_for_all(&mut all, &vertices(), 2, None);
        assert_eq!(found(&all), [(2, 2), (2, 2), (1, 1)]);
    }

    #[test]
    fn one_vertex_is_named_by_name_or_id() {
        let mut all = requirements();
        for text in ["Source: a=b=3", "aaaa2=2..5", "bbbb=2"] {
            ask_for_one(&mut all, &vertices(), text).unwrap();
        }
        assert_eq!(found(&all), [(1, 3), (2, 5), (1, 2)]);
        let check = |text: &str, expect: &str| {
            let error = ask_for_one(&mut requirements(), &vertices(), text).unwrap_err().to_string();
            assert!(error.contains(expect) && error.contains("expected VERTEX=N"), "{error}");
        };
        check("Count", "it has no `=`");
        check("Map=2", "no vertex \"Map\", but Source: a=b, Count, Sink");
        check("aaaa=2", "2 vertices are \"aaaa\"");
        check("Count=many", "\"many\" is no number");
    }
}
