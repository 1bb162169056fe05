//! Who may call: TaskManagers that know the cluster's secret, if it has one.

use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Lets calls pass that show the token as `authorization: Bearer …`; all, if there is none.
#[derive(Clone)]
pub(super) struct Access(Option<String>);

impl Access {
    pub(super) fn new(token: Option<String>) -> Access {
        Access(token.map(|token| format!("Bearer {token}")))
    }
}

impl Interceptor for Access {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.0 else { return Ok(request) };
        match request.metadata().get("authorization") {
            Some(shown) if weir_rest::same_secret(expected.as_bytes(), shown.as_bytes()) => Ok(request),
            Some(_) => Err(Status::unauthenticated(
                "the TaskManager's `security.internal.token` is not that of the JobManager",
            )),
            None => Err(Status::unauthenticated(
                "this cluster asks TaskManagers for a token: give them the JobManager's `security.internal.token`",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let check = |token: Option<&str>, shown: Option<&'static str>, expect: bool| {
            let mut request = Request::new(());
            if let Some(shown) = shown {
                request.metadata_mut().insert("authorization", shown.parse().unwrap());
            }
            assert_eq!(Access::new(token.map(str::to_owned)).call(request).is_ok(), expect, "{token:?} {shown:?}");
        };
        let token = Some("0123456789abcdef");
        check(None, None, true);
        check(None, Some("Bearer whatever"), true);
        check(token, Some("Bearer 0123456789abcdef"), true);
        check(token, None, false);
        check(token, Some("Bearer 0123456789abcdeF"), false);
        check(token, Some("Bearer 0123456789abcde"), false);
        check(token, Some("0123456789abcdef"), false);
        check(token, Some(""), false);
    }
}
