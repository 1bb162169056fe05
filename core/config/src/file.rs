//! `config.yaml`: options as nested maps, as dotted keys, or mixed.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{ConfigError, Configuration, Origin};

impl Configuration {
    /// Takes the options in a YAML file. `a: {b: 1}`, `a.b: 1` and mixtures mean the same; a list is its items joined by `;`.
    pub fn set_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let wrong = |problem: String| ConfigError::File { path: shown.clone(), problem };
        let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read ({error})")))?;
        let mut settings = Vec::new();
        if text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            let node: Node =
                serde_saphyr::from_str(&text).map_err(|error| wrong(format!("is not valid YAML: {error}")))?;
            flatten(String::new(), node, &mut settings).map_err(wrong)?;
        }
        settings.sort();
        if let Some(twice) = settings.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(wrong(format!("sets {:?} twice: {:?} and {:?}", twice[0].0, twice[0].1, twice[1].1)));
        }
        for (key, value) in settings {
            self.set(&key, &value, Origin::File)
                .map_err(|error| ConfigError::InFile { path: shown.clone(), error: Box::new(error) })?;
        }
        Ok(())
    }
}

/// YAML with every scalar as the text it stands for.
enum Node {
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
    Scalar(String),
    Null,
}

fn flatten(key: String, node: Node, settings: &mut Vec<(String, String)>) -> Result<(), String> {
    match node {
        Node::Map(entries) => entries.into_iter().try_for_each(|(name, node)| {
            flatten(if key.is_empty() { name } else { format!("{key}.{name}") }, node, settings)
        }),
        _ if key.is_empty() => Err("has no options in it: expected lines such as `parallelism.default: 4`".to_owned()),
        Node::Scalar(text) => {
            settings.push((key, text));
            Ok(())
        }
        Node::List(items) => {
            let words = items.into_iter().map(|item| match item {
                Node::Scalar(text) => Ok(text),
                Node::Map(_) | Node::List(_) | Node::Null => {
                    Err(format!("has a list at {key:?} whose items are not plain values"))
                }
            });
            let words: Vec<String> = words.collect::<Result<_, _>>()?;
            settings.push((key, words.join(";")));
            Ok(())
        }
        // `key:` with nothing behind it: as if it were not there.
        Node::Null => Ok(()),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("options")
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some((key, value)) = entries.next_entry::<String, Node>()? {
                    map.push((key, value));
                }
                Ok(Node::Map(map))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::options;

    fn load(text: &str) -> Result<Configuration, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut configuration = Configuration::new();
        configuration.set_file(file.path()).map_err(|error| error.to_string())?;
        Ok(configuration)
    }

    #[test]
    fn nested_and_dotted_keys_mean_the_same() {
        let nested =
            load("jobmanager:\n  rpc:\n    port: 7000\nrest.port: 7001\ntaskmanager:\n  numberOfTaskSlots: 3\n")
                .unwrap();
        let dotted =
            load("jobmanager.rpc.port: 7000\nrest: {port: 7001}\ntaskmanager.numberOfTaskSlots: \"3\"\n").unwrap();
        assert_eq!(nested, dotted);
        assert_eq!(nested.get(&options::JOBMANAGER_PORT), 7000);
        assert_eq!(nested.origin(&options::JOBMANAGER_PORT), Origin::File);
    }

    #[test]
    fn values_are_read_as_people_wrote_them() {
        let config = load("# a comment\nheartbeat.interval: 5 s\nweb.submit.enable: false\nresourcemanager.providers: [a, b]\nplugins.dir:\n").unwrap();
        assert_eq!(config.get(&options::HEARTBEAT_INTERVAL).as_secs(), 5);
        assert!(!config.get(&options::WEB_SUBMIT));
        assert_eq!(config.get(&options::PROVIDERS).0, ["a", "b"]);
        assert_eq!(config.get(&options::PLUGINS_DIR), None);
        assert_eq!(load("").unwrap(), Configuration::new());
        assert_eq!(load("# nothing\n").unwrap(), Configuration::new());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let check = |text: &str, expect: &str| {
            let error = load(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        check("rest: [", "is not valid YAML");
        check("just words", "has no options in it");
        check("rest.prot: 1", "did you mean \"rest.port\"?");
        check("rest.port: many", "does not begin with a number");
        check("rest.port: 1\nrest: {port: 2}", "sets \"rest.port\" twice");
        check("rest: {port: [[1]]}", "not plain values");
    }

    #[test]
    fn options_of_other_providers_are_left_to_their_plugins() {
        let config = load("provider.acme.region: north\n").unwrap();
        assert_eq!(config.iter().next(), Some(("provider.acme.region", "north", Origin::File)));
        let error = load("provider.standalone.max-wrokers: 1").unwrap_err();
        assert!(error.contains("provider.standalone.max-workers"), "{error}");
    }
}
