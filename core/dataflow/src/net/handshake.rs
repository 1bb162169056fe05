//! How two workers introduce themselves before any frame: who dials says who it is and proves that it knows the job's token.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::options::JobToken;

const MAGIC: [u8; 8] = *b"WEIRDATA";
/// Grows with every change of the handshake or of the frames.
const VERSION: u16 = 1;

const HELLO_BYTES: usize = 8 + 2 + 2 + 4 + 4 + JobToken::LEN;
const ANSWER_BYTES: usize = 8 + 2 + 2;

/// What the dialing worker says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u16,
    /// Worker index of who dials.
    pub(super) from: u32,
    /// Worker index of who it means to have reached.
    pub(super) to: u32,
    pub(super) token: [u8; JobToken::LEN],
}

/// What it hears back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Welcome,
    WrongVersion(u16),
    WrongToken,
    /// This is not the worker that was meant, or it does not expect one with that index.
    WrongWorker,
    /// The two workers are connected already.
    Twice,
}

impl Hello {
    pub(super) fn new(from: u32, to: u32, token: &JobToken) -> Hello {
        Hello { version: VERSION, from, to, token: *token.as_bytes() }
    }

    fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut out = [0; HELLO_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&self.from.to_le_bytes());
        out[16..20].copy_from_slice(&self.to.to_le_bytes());
        out[20..].copy_from_slice(&self.token);
        out
    }

    /// `None` for what no worker would say.
    fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<Hello> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut token = [0; JobToken::LEN];
        token.copy_from_slice(&bytes[20..]);
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        (bytes[..8] == MAGIC).then_some(Hello { version, from: number(12), to: number(16), token })
    }

    /// The answer to be given as far as it depends on version and token only.
    pub(super) fn check(&self, token: &JobToken) -> Answer {
        if self.version != VERSION {
            Answer::WrongVersion(VERSION)
        } else if !token.matches(&self.token) {
            Answer::WrongToken
        } else {
            Answer::Welcome
        }
    }
}

impl Answer {
    fn encode(self) -> [u8; ANSWER_BYTES] {
        let (code, version) = match self {
            Answer::Welcome => (0, VERSION),
            Answer::WrongVersion(version) => (1, version),
            Answer::WrongToken => (2, VERSION),
            Answer::WrongWorker => (3, VERSION),
            Answer::Twice => (4, VERSION),
        };
        let mut out = [0; ANSWER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&u16::to_le_bytes(version));
        out[10] = code;
        out
    }

    fn decode(bytes: &[u8; ANSWER_BYTES]) -> Option<Answer> {
        if bytes[..8] != MAGIC {
            return None;
        }
        match bytes[10] {
            0 => Some(Answer::Welcome),
            1 => Some(Answer::WrongVersion(u16::from_le_bytes([bytes[8], bytes[9]]))),
            2 => Some(Answer::WrongToken),
            3 => Some(Answer::WrongWorker),
            4 => Some(Answer::Twice),
            _ => None,
        }
    }

    /// Why the connection did not come about, in words for whoever reads the dialing worker's log.
    fn refusal(self) -> Option<String> {
        match self {
            Answer::Welcome => None,
            Answer::WrongVersion(theirs) => Some(format!(
                "it speaks version {theirs} of the data protocol, this worker version {VERSION}; start all workers from the same artifact"
            )),
            Answer::WrongToken => Some(
                "it belongs to another job (the tokens differ); check that the address is of this job's worker"
                    .to_owned(),
            ),
            Answer::WrongWorker => Some(
                "it has another place in the job than expected; all workers need the same list of addresses".to_owned(),
            ),
            Answer::Twice => {
                Some("it is connected to a worker with this index already; indices must be unique".to_owned())
            }
        }
    }
}

/// Reads the introduction of somebody who dialed in. `None`: not a worker, or too slow.
pub(super) async fn hear(stream: &mut TcpStream, patience: Duration) -> Option<Hello> {
    let mut bytes = [0; HELLO_BYTES];
    let read = tokio::time::timeout(patience, stream.read_exact(&mut bytes)).await;
    matches!(read, Ok(Ok(_))).then(|| Hello::decode(&bytes)).flatten()
}

/// Answers an introduction.
pub(super) async fn answer(stream: &mut TcpStream, answer: Answer) -> io::Result<()> {
    stream.write_all(&answer.encode()).await
}

/// Introduces this worker and waits for the answer. The error says why there will be no connection.
pub(super) async fn introduce(stream: &mut TcpStream, hello: &Hello) -> Result<(), String> {
    let broke = |e: io::Error| format!("the connection broke during the handshake: {e}; look at that worker's log");
    stream.write_all(&hello.encode()).await.map_err(broke)?;
    let mut bytes = [0; ANSWER_BYTES];
    stream.read_exact(&mut bytes).await.map_err(broke)?;
    match Answer::decode(&bytes) {
        Some(answer) => answer.refusal().map_or(Ok(()), Err),
        None => Err("what answers there is not a worker; check the address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_and_answers_survive_the_wire() {
        let hello = Hello::new(3, 5, &JobToken::from_bytes([7; 32]));
        assert_eq!(Hello::decode(&hello.encode()), Some(hello.clone()));
        assert_eq!(Hello::decode(&[0; HELLO_BYTES]), None);
        let answers =
            [Answer::Welcome, Answer::WrongVersion(9), Answer::WrongToken, Answer::WrongWorker, Answer::Twice];
        for answer in answers {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        let mut unknown = Answer::Welcome.encode();
        unknown[10] = 200;
        assert_eq!(Answer::decode(&unknown), None);
    }

    #[test]
    fn version_and_token_are_checked() {
        let token = JobToken::from_bytes([7; 32]);
        let hello = Hello::new(0, 1, &token);
        assert_eq!(hello.check(&token), Answer::Welcome);
        assert_eq!(hello.check(&JobToken::from_bytes([8; 32])), Answer::WrongToken);
        let old = Hello { version: VERSION + 1, ..hello };
        assert_eq!(old.check(&token), Answer::WrongVersion(VERSION));
    }
}
