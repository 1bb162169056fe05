//! Uploads: forms with one file, passed on as they arrive.

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use axum::http::StatusCode;

use crate::api::{Api, Cluster};
use crate::body;
use crate::error::ApiError;
use crate::{ArtifactUpload, StoredArtifact};

/// The most bytes of a part that is no file.
const MAX_ATTRIBUTE: usize = 64 << 10;
/// The longest file name that is kept.
const MAX_NAME: usize = 200;

/// Stores the only file of a form. Whatever goes wrong, nothing is kept.
pub(super) async fn receive(api: &Api, cluster: &Cluster, mut form: Multipart) -> Result<StoredArtifact, ApiError> {
    let mut received: Option<Box<dyn ArtifactUpload>> = None;
    while let Some(field) = form.next_field().await.map_err(|error| malformed(&error))? {
        let Some(name) = field.file_name().map(clean) else {
            attribute(field).await?;
            continue;
        };
        if received.is_some() {
            return Err(ApiError::bad_request(format!("Exactly 1 file must be sent, received several. {EXPECTED}")));
        }
        if name.is_empty() {
            return Err(ApiError::bad_request(format!("The file has no name. {EXPECTED}")));
        }
        let mut upload = cluster.upload(name).await?;
        copy(field, &mut *upload, api.options.max_artifact_size).await?;
        received = Some(upload);
    }
    match received {
        Some(upload) => Ok(upload.finish().await?),
        None => Err(none()),
    }
}

/// A part that is no file: Java clients of Flink send the request's body, here empty, in one called `request`.
async fn attribute(mut field: Field<'_>) -> Result<(), ApiError> {
    if field.name() != Some("request") {
        let name = field.name().unwrap_or_default();
        return Err(ApiError::bad_request(format!("The part {name:?} of the form is no file. {EXPECTED}")));
    }
    let mut left = MAX_ATTRIBUTE;
    while let Some(bytes) = field.chunk().await.map_err(|error| malformed(&error))? {
        let too_long =
            || ApiError::bad_request(format!("The part \"request\" of the form is longer than {MAX_ATTRIBUTE} bytes."));
        left = left.checked_sub(bytes.len()).ok_or_else(too_long)?;
    }
    Ok(())
}

const EXPECTED: &str = "Send one file as multipart/form-data, e.g. with `curl -F jarfile=@PROGRAM`.";

/// The answer to an upload without a file.
pub(super) fn none() -> ApiError {
    ApiError::bad_request(format!("Exactly 1 file must be sent, received 0. {EXPECTED}"))
}

async fn copy(mut field: Field<'_>, upload: &mut dyn ArtifactUpload, limit: u64) -> Result<(), ApiError> {
    let mut size = 0;
    while let Some(bytes) = field.chunk().await.map_err(|error| malformed(&error))? {
        size += bytes.len() as u64;
        if size > limit {
            return Err(ApiError::too_large(limit, "weir.artifacts.max-size"));
        }
        upload.write(bytes).await?;
    }
    Ok(())
}

/// A form that cannot be read, or that stopped coming.
fn malformed(error: &MultipartError) -> ApiError {
    let broken = body::broken_off(error);
    if broken.status == StatusCode::REQUEST_TIMEOUT {
        return broken;
    }
    ApiError::bad_request(format!("The form cannot be read: {}. {EXPECTED}", error.body_text()))
}

/// The last element of a path, without what would confuse a terminal or a file system, and not too long.
fn clean(name: &str) -> String {
    let element = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible = element.chars().map(|c| if c.is_control() { '_' } else { c });
    let mut cleaned = visible.collect::<String>();
    while cleaned.len() > MAX_NAME {
        cleaned.pop();
    }
    if matches!(cleaned.as_str(), "." | "..") { String::new() } else { cleaned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_names_only() {
        assert_eq!(clean("word-count"), "word-count");
        assert_eq!(clean("../../etc/cron.d/job"), "job");
        assert_eq!(clean("C:\\jobs\\job.exe"), "job.exe");
        assert_eq!(clean("a\nb\0c"), "a_b_c");
        assert_eq!(clean(".."), "");
        assert_eq!(clean(&"ä".repeat(500)).len(), MAX_NAME);
    }
}
