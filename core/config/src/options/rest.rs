//! Options of the HTTP API.

use std::time::Duration;

use super::{check_token, within};
use crate::{ByteSize, ConfigOption, Secret};

/// `rest.address`.
pub static REST_ADDRESS: ConfigOption<String> =
    ConfigOption::new("rest.address", "localhost", "Host by which clients reach the HTTP API of the JobManager.")
        .cluster();

/// `rest.port`.
pub static REST_PORT: ConfigOption<u32> =
    ConfigOption::new("rest.port", "8081", "Port of the HTTP API and the dashboard. 0 takes any free one.")
        .cluster()
        .with_fallback_keys(&["rest.bind-port"])
        .in_range(|value| within(Some(*value), 0, 65535));

/// `rest.bind-address`.
pub static REST_BIND_ADDRESS: ConfigOption<String> = ConfigOption::new(
    "rest.bind-address",
    "localhost",
    "Address on which the HTTP API listens. Whoever reaches it can run programs: an address that other machines reach needs `security.rest.token`, \
     or `security.rest.allow-unauthenticated`.",
)
.cluster();

/// `security.rest.token`.
pub static REST_TOKEN: ConfigOption<Option<Secret>> = ConfigOption::optional(
    "security.rest.token",
    "The secret that clients of the HTTP API show as `Authorization: Bearer …`. The command line uses the same option. When it is not set, nobody is asked.",
)
.cluster()
.in_range(check_token);

/// `security.rest.allow-unauthenticated`.
pub static ALLOW_UNAUTHENTICATED: ConfigOption<bool> = ConfigOption::new(
    "security.rest.allow-unauthenticated",
    "false",
    "Whether the HTTP API may be open to other machines without a token.",
)
.cluster();

/// `web.submit.enable`.
pub static WEB_SUBMIT: ConfigOption<bool> =
    ConfigOption::new("web.submit.enable", "true", "Whether artifacts can be uploaded and run over the HTTP API.")
        .cluster();

/// `web.cancel.enable`.
pub static WEB_CANCEL: ConfigOption<bool> =
    ConfigOption::new("web.cancel.enable", "true", "Whether jobs can be canceled over the HTTP API.").cluster();

/// `web.refresh-interval`.
pub static WEB_REFRESH: ConfigOption<Duration> =
    ConfigOption::new("web.refresh-interval", "3 s", "How often the dashboard refreshes what it shows.").cluster();

/// `web.access-control-allow-origin`.
pub static WEB_ALLOW_ORIGIN: ConfigOption<String> = ConfigOption::new(
    "web.access-control-allow-origin",
    "*",
    "The value of the header `Access-Control-Allow-Origin` of every answer.",
)
.cluster();

/// `web.timeout`.
pub static WEB_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "web.timeout",
    "10 min",
    "How long the cluster may take to answer a request of the HTTP API, but for uploads of artifacts. To run a job includes that it is built.",
)
.cluster()
.in_range(|value| if value.as_millis() >= 100 { Ok(()) } else { Err("it is below 100 ms".to_owned()) });

/// `rest.server.max-content-length`.
pub static REST_MAX_CONTENT: ConfigOption<ByteSize> = ConfigOption::new(
    "rest.server.max-content-length",
    "100mb",
    "The largest body of a request, but for uploads of artifacts.",
)
.cluster();

/// `weir.artifacts.max-size`.
pub static ARTIFACT_MAX_SIZE: ConfigOption<ByteSize> =
    ConfigOption::new("weir.artifacts.max-size", "2gb", "The largest artifact that can be uploaded.").cluster();

/// `client.timeout`.
pub static CLIENT_TIMEOUT: ConfigOption<Duration> =
    ConfigOption::new("client.timeout", "1 min", "How long the command line waits for an answer of the HTTP API.")
        .cluster();
