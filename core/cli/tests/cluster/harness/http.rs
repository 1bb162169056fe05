//! A client of the HTTP API that blocks.

use std::path::Path;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Http {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The id of the job that this says was accepted.
    #[track_caller]
    pub(crate) fn accepted(&self) -> String {
        assert_eq!(self.status, 200, "the job is not taken: {}", self.body);
        super::text(&self.json()["jobid"])
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Http {
    pub(super) fn new() -> Http {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A connection that is kept would be to a JobManager that is dead by now.
        let client = reqwest::Client::builder().timeout(TIMEOUT).pool_max_idle_per_host(0).no_proxy().build().unwrap();
        Http { runtime, client }
    }

    /// `None` if nobody answers.
    pub(super) fn request(&self, method: &str, url: &str, body: Option<&Value>) -> Option<Answer> {
        let mut request = self.client.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).ok()
    }

    #[track_caller]
    pub(super) fn upload(&self, url: &str, path: &Path) -> Answer {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let form = Form::new().part("jarfile", Part::bytes(std::fs::read(path).unwrap()).file_name(name));
        self.send(self.client.post(url).multipart(form)).unwrap()
    }

    fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok(Answer { status, body: response.text().await? })
        })
    }
}
