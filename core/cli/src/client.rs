//! The HTTP API of a JobManager, as the commands use it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_config::{Configuration, options};

use crate::failure::usage;

/// How long a JobManager without a leader is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// How the answer to a job that cannot be built begins.
const NOT_EXECUTED: &str = "Could not execute application. ";

/// A JobManager's HTTP API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// The answer says no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl Client {
    /// The JobManager at `address` (`host:port` or a URL), or where the configuration says.
    pub(crate) fn new(address: Option<&str>, configuration: &Configuration) -> anyhow::Result<Client> {
        let base = match address {
            Some(address) => base_of(address)?,
            None => {
                let host = configuration.get(&options::REST_ADDRESS);
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                format!("http://{host}:{}", configuration.get(&options::REST_PORT))
            }
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(configuration.get(&options::CLIENT_TIMEOUT))
            .no_proxy()
            .build()
            .context("the HTTP client cannot be set up")?;
        let token = configuration.get(&options::REST_TOKEN).map(|token| token.reveal().to_owned());
        Ok(Client { http, base, token })
    }

    /// `http://host:port`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(Method::GET, path, None).await
    }

    pub(crate) async fn patch(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::PATCH, path, None).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.json(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::PUT, path, Some(body)).await
    }

    /// Something that is not JSON.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<Response> {
        self.answered(|| self.request(Method::GET, path)).await
    }

    /// Uploads a file without having it in memory; returns the artifact's key.
    pub(crate) async fn upload(&self, file: &Path) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Uploaded {
            filename: String,
        }
        let part =
            reqwest::multipart::Part::file(file).await.with_context(|| format!("{} cannot be read", file.display()))?;
        let form = reqwest::multipart::Form::new().part("jarfile", part);
        let response = self.request(Method::POST, "/jars/upload").multipart(form).send().await;
        let uploaded: Uploaded = read(check(response.map_err(|error| self.unreachable(&error))?).await?).await?;
        Ok(uploaded.filename.rsplit('/').next().unwrap_or_default().to_owned())
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<T> {
        let request = || {
            let request = self.request(method.clone(), path);
            match body {
                Some(body) => request.json(body),
                None => request,
            }
        };
        read(self.answered(request).await?).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/v1{path}", self.base));
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request; while there is no leader, again.
    async fn answered(&self, request: impl Fn() -> RequestBuilder) -> anyhow::Result<Response> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let response = request().send().await.map_err(|error| self.unreachable(&error))?;
            if response.status() != StatusCode::SERVICE_UNAVAILABLE || Instant::now() >= deadline {
                return Ok(check(response).await?);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow!(
                "no JobManager answers at {}: start a cluster with `weir local` or `weir jobmanager`, or name another one with -m HOST:PORT",
                self.base
            );
        }
        if error.is_timeout() {
            return anyhow!("the JobManager at {} did not answer in time (client.timeout)", self.base);
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        anyhow!("the connection to the JobManager at {} failed: {cause}", self.base)
    }
}

fn base_of(address: &str) -> anyhow::Result<String> {
    let address = address.trim_end_matches('/');
    if address.starts_with("https://") {
        return Err(usage(format!(
            "{address}: this version speaks plain HTTP only; put a proxy that speaks TLS before the JobManager, and name its HTTP side here"
        )));
    }
    let plain = address.strip_prefix("http://").unwrap_or(address);
    let port = plain.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !plain.contains('/') => Ok(format!("http://{plain}")),
        _ => Err(usage(format!(
            "-m is {address:?}: expected the JobManager's HTTP address as HOST:PORT, e.g. -m localhost:8081"
        ))),
    }
}

async fn check(response: Response) -> Result<Response, Refused> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let message = match serde_json::from_str::<Errors>(&text) {
        // What Flink's clients expect to read first is of no use to a person.
        Ok(Errors { errors }) if !errors.is_empty() => errors.join("\n").replacen(NOT_EXECUTED, "", 1),
        _ => format!("the JobManager answered {status}"),
    };
    let message = match status {
        StatusCode::UNAUTHORIZED => {
            format!("{message} (set -D security.rest.token=… or WEIR_CONF_SECURITY_REST_TOKEN)")
        }
        _ => message,
    };
    Err(Refused { status, message })
}

async fn read<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    let bytes = response.bytes().await.context("the JobManager's answer was cut off")?;
    serde_json::from_slice(&bytes)
        .context("the JobManager's answer is not what this version expects: use the same version of Weir on both sides")
}

/// A job in `/jobs/overview`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct JobLine {
    pub(crate) jid: String,
    pub(crate) name: String,
    pub(crate) state: String,
    #[serde(rename = "start-time")]
    pub(crate) start: i64,
    pub(crate) duration: i64,
    pub(crate) tasks: std::collections::BTreeMap<String, i64>,
}

impl JobLine {
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(&self.state)
    }
}

/// Whether nothing follows a job's status.
pub(crate) fn has_ended(status: &str) -> bool {
    matches!(status, "FINISHED" | "FAILED" | "CANCELED" | "SUSPENDED")
}

#[derive(Debug, Deserialize)]
struct Overview {
    jobs: Vec<JobLine>,
}

impl Client {
    /// The status of a job when it has ended, or, if it goes on, after this time.
    pub(crate) async fn status(&self, id: &str, wait: Duration) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            status: String,
        }
        let millis = wait.as_millis().max(1);
        let Answer { status } = self.get(&format!("/jobs/{id}/status?wait=FINISHED&timeout={millis}")).await?;
        Ok(status)
    }

    /// All jobs, newest first.
    pub(crate) async fn jobs(&self) -> anyhow::Result<Vec<JobLine>> {
        let Overview { mut jobs } = self.get("/jobs/overview").await?;
        jobs.sort_by_key(|job| std::cmp::Reverse(job.start));
        Ok(jobs)
    }

    /// The job that a person means: by id, the beginning of an id, or name. Of jobs of one name, the one that has not ended.
    pub(crate) async fn find_job(&self, named: &str) -> anyhow::Result<JobLine> {
        let jobs = self.jobs().await?;
        let by_id: Vec<&JobLine> = jobs.iter().filter(|job| job.jid.starts_with(&named.to_lowercase())).collect();
        let by_name: Vec<&JobLine> = jobs.iter().filter(|job| job.name == named).collect();
        let alive: Vec<&JobLine> = by_name.iter().copied().filter(|job| !job.has_ended()).collect();
        match (by_id.as_slice(), alive.as_slice(), by_name.as_slice()) {
            ([only], ..) if named.len() >= 4 => Ok((*only).clone()),
            (_, [only], _) | (_, [], [only, ..]) => Ok((*only).clone()),
            (_, [_, _, ..], _) => {
                let ids: Vec<&str> = alive.iter().map(|job| job.jid.as_str()).collect();
                Err(usage(format!("{} jobs are named {named:?}; name one by its id: {}", ids.len(), ids.join(", "))))
            }
            ([_, _, ..], ..) if named.len() >= 4 => {
                Err(usage(format!("{} jobs have an id that begins with {named}; write more of it", by_id.len())))
            }
            _ => bail!(
                "there is no job {named:?} on the cluster at {}; `weir list --all` shows what is there",
                self.base
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request after the other with these, each on a connection of its own.
    fn server(answers: Vec<(&'static str, &'static str)>) -> String {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(&stream).lines();
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all((head + body).as_bytes()).unwrap();
            }
        });
        address
    }

    fn ask(answers: Vec<(&'static str, &'static str)>) -> Result<Value, String> {
        let client = Client::new(Some(&server(answers)), &Configuration::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client.get("/x")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_without_a_leader_is_asked_again() {
        let unavailable = ("503 Service Unavailable", r#"{"errors":["no leader"]}"#);
        assert_eq!(ask(vec![unavailable, unavailable, ("200 OK", "7")]), Ok(Value::from(7)));
    }

    #[test]
    fn a_refusal_is_told_in_the_clusters_words() {
        let told = |status, body| ask(vec![(status, body)]).unwrap_err();
        let error = told("400 Bad Request", r#"{"errors":["Could not execute application. no such fish"]}"#);
        assert_eq!(error, "no such fish");
        let error = told("401 Unauthorized", r#"{"errors":["a token, please"]}"#);
        assert!(error.contains("a token, please") && error.contains("security.rest.token"), "{error}");
        assert!(told("404 Not Found", "<html>").contains("answered 404"));
        assert!(told("200 OK", "<html>").contains("the same version of Weir"));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (address, expect) in [
            ("localhost:8081", "http://localhost:8081"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80"),
            ("[::1]:8081", "http://[::1]:8081"),
        ] {
            assert_eq!(base_of(address).unwrap(), expect);
        }
        for wrong in ["localhost", "yarn-cluster", "https://host:1", "http://host:1/path", "host:99999"] {
            let error = base_of(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
