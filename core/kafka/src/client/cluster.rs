//! Which Kafka cluster, and how patiently it is spoken to.

use std::fmt;
use std::time::Duration;

use crate::error::KafkaError;

/// A Kafka cluster: its bootstrap servers and the limits of talking to it. Only PLAINTEXT listeners are spoken to.
///
/// Made from a list of servers: `Cluster::new("broker1:9092,broker2:9092")`.
#[derive(Debug, Clone)]
pub struct Cluster {
    servers: String,
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_timeout: Duration,
}

impl Cluster {
    /// The cluster these servers (`host:port`, separated by commas) belong to. They are only asked for the others, so not all
    /// brokers need to be named.
    pub fn new(servers: impl Into<String>) -> Cluster {
        Cluster {
            servers: servers.into(),
            client_id: "weir".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(120),
        }
    }

    /// The name brokers have for this client in their logs and quotas; `weir` unless set.
    pub fn client_id(mut self, name: impl Into<String>) -> Cluster {
        self.client_id = name.into();
        self
    }

    /// How long making a connection may take; 10 s unless set.
    pub fn connect_timeout(mut self, time: Duration) -> Cluster {
        self.connect_timeout = time;
        self
    }

    /// How long a broker may take for an answer; 30 s unless set.
    pub fn request_timeout(mut self, time: Duration) -> Cluster {
        self.request_timeout = time;
        self
    }

    /// How long a running job puts up with brokers that are gone, restarting or without a leader before it fails; 120 s unless
    /// set. At its start a job does not wait for brokers.
    pub fn retry_timeout(mut self, time: Duration) -> Cluster {
        self.retry_timeout = time;
        self
    }

    /// The addresses of the bootstrap servers.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, KafkaError> {
        let invalid = |reason: String| KafkaError::Servers { given: self.servers.clone(), reason };
        let listed = self.servers.split(',').map(str::trim).filter(|server| !server.is_empty());
        let addresses: Result<Vec<_>, _> = listed.map(|server| Address::parse(server).map_err(invalid)).collect();
        let addresses = addresses?;
        if addresses.is_empty() { Err(invalid("no server is named".to_owned())) } else { Ok(addresses) }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers)
    }
}

impl From<&str> for Cluster {
    fn from(servers: &str) -> Cluster {
        Cluster::new(servers)
    }
}

impl From<String> for Cluster {
    fn from(servers: String) -> Cluster {
        Cluster::new(servers)
    }
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    fn parse(server: &str) -> Result<Address, String> {
        let plain = match server.split_once("://") {
            None => server,
            Some((protocol, rest)) if protocol.eq_ignore_ascii_case("plaintext") => rest,
            Some((protocol, _)) => {
                return Err(format!("{protocol} is not supported yet; only PLAINTEXT listeners are"));
            }
        };
        let Some((host, port)) = plain.rsplit_once(':') else {
            return Err(format!("{plain:?} has no port"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        if host.is_empty() {
            return Err(format!("{plain:?} has no host"));
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(servers: &str, expect: &str) {
        let found = match Cluster::new(servers).addresses() {
            Ok(addresses) => addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expect), "{servers}: {found:?} should contain {expect:?}");
    }

    #[test]
    fn servers_are_separated_by_commas() {
        check("a:1", "a:1");
        check("a:1, b:22,", "a:1 b:22");
        check("PLAINTEXT://a:1", "a:1");
        check("[::1]:9092", "[::1]:9092");
    }

    #[test]
    fn servers_that_cannot_be_are_refused_with_what_was_expected() {
        check("", "no server is named; expected host:port");
        check("a", "\"a\" has no port");
        check("a:x", "\"x\" is no port");
        check(":1", "has no host");
        check("SASL_SSL://a:1", "SASL_SSL is not supported yet; only PLAINTEXT");
    }
}
