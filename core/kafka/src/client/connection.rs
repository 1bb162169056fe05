//! One connection to a broker: requests out, answers in, in order.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use super::cluster::{Address, Cluster};
use super::versions::{self, Spoken};
use crate::error::{KafkaError, refuse};

/// No answer is larger; what claims to be is no answer of a Kafka broker.
const LARGEST_ANSWER: usize = 1 << 30;

/// A connection to a broker. After an error it must not be used any more.
pub(crate) struct Connection {
    address: Address,
    stream: TcpStream,
    client_id: StrBytes,
    timeout: Duration,
    versions: BTreeMap<i16, (i16, i16)>,
    next: i32,
    buffer: BytesMut,
}

/// A request whose answer has not been received.
#[derive(Debug)]
pub(crate) struct Sent<R> {
    correlation: i32,
    version: i16,
    request: PhantomData<fn(R)>,
}

impl Connection {
    /// Connects and learns what the broker speaks.
    pub(crate) fn open(address: &Address, cluster: &Cluster) -> Result<Connection, KafkaError> {
        let failed = |reason: String| KafkaError::Connection { broker: address.to_string(), reason };
        let stream = connect(address, cluster.connect_timeout).map_err(failed)?;
        let set = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(cluster.request_timeout)));
        set.map_err(|error| failed(error.to_string()))?;
        let mut connection = Connection {
            address: address.clone(),
            stream,
            client_id: StrBytes::from_string(cluster.client_id.clone()),
            timeout: cluster.request_timeout,
            versions: BTreeMap::from([(ApiVersionsRequest::KEY, (0, 0))]),
            next: 0,
            buffer: BytesMut::new(),
        };
        let answer = connection.call(&ApiVersionsRequest::default()).map_err(|error| match error {
            KafkaError::Connection { broker, reason } => KafkaError::Connection {
                broker,
                reason: format!("{reason}; it is the first request, so the listener may want TLS or SASL, of which only PLAINTEXT is supported yet"),
            },
            error => error,
        })?;
        refuse("asking for the versions it speaks", answer.error_code)?;
        connection.versions =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(connection)
    }

    /// Sends a request and receives its answer.
    pub(crate) fn call<R: Spoken>(&mut self, request: &R) -> Result<R::Response, KafkaError> {
        let sent = self.send(request)?;
        self.receive(sent, Duration::ZERO)
    }

    /// Sends a request. Answers are to be received in the order of requests.
    pub(crate) fn send<R: Spoken>(&mut self, request: &R) -> Result<Sent<R>, KafkaError> {
        let version = versions::common::<R>(&self.address, self.versions.get(&R::KEY).copied())?;
        let correlation = self.next;
        self.next = self.next.wrapping_add(1);
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 4]);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.client_id.clone()));
        header
            .encode(&mut self.buffer, <R as HeaderVersion>::header_version(version))
            .and_then(|()| request.encode(&mut self.buffer, version))
            .map_err(|error| self.incomprehensible(format!("the request {} cannot be written: {error}", R::NAME)))?;
        let length = (self.buffer.len() - 4) as i32;
        self.buffer[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&self.buffer).map_err(|error| self.broken("sending to it", &error))?;
        if self.buffer.capacity() > 1 << 20 {
            // A large request was rare; the next one need not keep its memory.
            self.buffer = BytesMut::new();
        }
        Ok(Sent { correlation, version, request: PhantomData })
    }

    /// Receives the answer to a request that the broker may keep waiting for `patience` on purpose.
    pub(crate) fn receive<R: Spoken>(&mut self, sent: Sent<R>, patience: Duration) -> Result<R::Response, KafkaError> {
        let limit = self.timeout + patience;
        self.stream.set_read_timeout(Some(limit)).map_err(|error| self.broken("receiving from it", &error))?;
        let mut length = [0; 4];
        self.read(&mut length, limit)?;
        let length = i32::from_be_bytes(length);
        let length = usize::try_from(length).ok().filter(|length| (4..=LARGEST_ANSWER).contains(length));
        let length = length.ok_or_else(|| {
            self.incomprehensible(
                "what it sent is no answer of a Kafka broker. Is this a PLAINTEXT listener of Kafka?".to_owned(),
            )
        })?;
        let mut body = vec![0; length];
        self.read(&mut body, limit)?;
        let mut body = Bytes::from(body);
        let header_version = <R::Response as HeaderVersion>::header_version(sent.version);
        let header = ResponseHeader::decode(&mut body, header_version)
            .map_err(|error| self.incomprehensible(format!("its answer to {} cannot be read: {error}", R::NAME)))?;
        if header.correlation_id != sent.correlation {
            let (found, expected) = (header.correlation_id, sent.correlation);
            return Err(self.incomprehensible(format!("it answered request {found}, expected was {expected}")));
        }
        R::Response::decode(&mut body, sent.version)
            .map_err(|error| self.incomprehensible(format!("its answer to {} cannot be read: {error}", R::NAME)))
    }

    fn read(&mut self, into: &mut [u8], limit: Duration) -> Result<(), KafkaError> {
        self.stream.read_exact(into).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => KafkaError::Connection {
                broker: self.address.to_string(),
                reason: format!("no answer within {} s", limit.as_secs_f64()),
            },
            ErrorKind::UnexpectedEof => KafkaError::Connection {
                broker: self.address.to_string(),
                reason: "it closed the connection".to_owned(),
            },
            _ => self.broken("receiving from it", &error),
        })
    }

    fn broken(&self, doing: &str, error: &std::io::Error) -> KafkaError {
        KafkaError::Connection { broker: self.address.to_string(), reason: format!("{doing} failed: {error}") }
    }

    fn incomprehensible(&self, reason: String) -> KafkaError {
        KafkaError::Protocol { broker: self.address.to_string(), reason }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).field("next", &self.next).finish_non_exhaustive()
    }
}

fn connect(address: &Address, timeout: Duration) -> Result<TcpStream, String> {
    let addresses = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(|error| format!("the host {} cannot be found: {error}", address.host))?;
    let mut failure = format!("the host {} has no address", address.host);
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                failure = "the connection was refused".to_owned();
            }
            Err(error) => failure = format!("connecting failed: {error}"),
        }
    }
    Err(failure)
}
