//! Uploads, what is refused, and what is handed out.

use std::os::unix::fs::FileExt;

use tonic::Code;
use weir_proto::control::FetchArtifactRequest;
use weir_rest::GatewayError;

use crate::harness::{Cluster, executable, request};

async fn fetch(cluster: &Cluster, id: &[u8], offset: u64) -> Result<Vec<u8>, tonic::Status> {
    fetch_for(cluster, id, offset, cluster.epoch().await).await
}

async fn fetch_for(cluster: &Cluster, id: &[u8], offset: u64, epoch: u64) -> Result<Vec<u8>, tonic::Status> {
    let request = FetchArtifactRequest { id: id.to_vec(), offset, epoch };
    let mut chunks = cluster.client().await.fetch_artifact(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        all.extend_from_slice(&chunk.data);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_listed_with_its_jobs_and_handed_to_task_managers() {
    let cluster = Cluster::start(&[]).await;
    let uploaded = cluster.upload().await;
    assert_eq!(uploaded.jobs, ["numbers", "endless", "fails", "aborts", "hangs", "refuses"]);
    assert!(uploaded.key.ends_with("_jobs"), "{}", uploaded.key);
    let again = cluster.upload().await;
    assert_eq!(again.artifact, uploaded.artifact);
    let listed = cluster.gateway.artifacts().await.unwrap();
    assert_eq!(listed, [again.clone(), uploaded.clone()]);
    let content = std::fs::read(executable()).unwrap();
    let id = uploaded.artifact.id;
    assert!(fetch(&cluster, id.as_bytes(), 0).await.unwrap() == content);
    assert!(fetch(&cluster, id.as_bytes(), 1000).await.unwrap() == content[1000..]);
    assert_eq!(fetch(&cluster, &[0; 32], 0).await.unwrap_err().code(), Code::NotFound);
    let stale = fetch_for(&cluster, id.as_bytes(), 0, cluster.epoch().await - 1).await.unwrap_err();
    assert_eq!(stale.code(), Code::FailedPrecondition);
    assert_eq!(fetch(&cluster, &[0; 3], 0).await.unwrap_err().code(), Code::InvalidArgument);
    // Both entries name the same content, which goes with the last of them.
    cluster.gateway.delete_artifact(uploaded.key.clone()).await.unwrap();
    fetch(&cluster, id.as_bytes(), 0).await.unwrap();
    cluster.gateway.delete_artifact(again.key).await.unwrap();
    assert_eq!(fetch(&cluster, id.as_bytes(), 0).await.unwrap_err().code(), Code::NotFound);
    let gone = cluster.gateway.delete_artifact(uploaded.key).await.unwrap_err();
    assert!(matches!(gone, GatewayError::NotFound(_)), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_for_this_machine_is_refused_and_not_kept() {
    let cluster = Cluster::start(&[]).await;
    let job = std::fs::read(executable()).unwrap();
    let check = async |name: &str, content: &[u8], expect: &str| {
        let error = cluster.upload_bytes(name, content).await.unwrap_err();
        assert!(matches!(error, GatewayError::BadRequest(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(name) && text.contains(expect), "{text}");
    };
    check("empty", b"", "is an empty file").await;
    check("run.sh", b"#!/bin/sh\necho hello\n", "is a script").await;
    check("x.jar", b"PK\x03\x04rest", "a zip or Java archive").await;
    check("short", &job[..job.len() / 2], "is cut short").await;
    let mut foreign = job.clone();
    foreign[18..20].copy_from_slice(&22u16.to_ne_bytes());
    check("foreign", &foreign, "is for another architecture: it is built for s390x").await;
    check("tests", &std::fs::read(std::env::current_exe().unwrap()).unwrap(), "but no Weir job").await;
    let mut other = job.clone();
    let note = other.windows(8).position(|window| window == b"Weir\0\0\0\0").unwrap();
    other[note + 8..note + 12].copy_from_slice(&9999u32.to_ne_bytes());
    check("other", &other, "speaks version 9999 of the protocol").await;
    assert_eq!(cluster.gateway.artifacts().await.unwrap(), []);
    let stored = cluster.path("work/default/jobmanager/artifacts/content");
    assert_eq!(std::fs::read_dir(stored).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_is_neither_run_nor_handed_out() {
    let cluster = Cluster::start(&[]).await;
    let uploaded = cluster.upload().await;
    let stored = cluster.path("work/default/jobmanager/artifacts/content").join(uploaded.artifact.id.to_string());
    let file = std::fs::OpenOptions::new().write(true).open(stored).unwrap();
    file.write_all_at(b"damage", uploaded.artifact.size / 2).unwrap();
    let status = fetch(&cluster, uploaded.artifact.id.as_bytes(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    let error = cluster.gateway.run(request(&uploaded.key, "endless", &[])).await.unwrap_err();
    for text in [status.message().to_owned(), error.to_string()] {
        assert!(text.contains("is damaged") && text.contains("upload it again"), "{text}");
    }
    let again = cluster.upload().await;
    cluster.gateway.plan(request(&again.key, "endless", &[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let cluster = Cluster::start(&[]).await;
    let mut upload = cluster.gateway.upload("job".to_owned()).await.unwrap();
    upload.write(vec![1; 1000].into()).await.unwrap();
    let incoming = cluster.path("work/default/jobmanager/artifacts/incoming");
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 1);
    drop(upload);
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_artifacts_make_room_for_new_ones_unless_a_job_needs_them() {
    let content = std::fs::read(executable()).unwrap();
    let limit = format!("weir.artifacts.max-total-size={}b", content.len() * 2 + 10);
    let cluster = Cluster::start(&[&limit]).await;
    // Other content, but a job all the same: what follows an executable does not matter.
    let version = |number: u8| [content.as_slice(), &[number]].concat();
    let upload = async |number: u8| cluster.upload_bytes("jobs", &version(number)).await;
    let keys = async || {
        let mut keys: Vec<_> = cluster.gateway.artifacts().await.unwrap().into_iter().map(|it| it.key).collect();
        keys.sort();
        keys
    };
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let (first, second) = (upload(1).await.unwrap(), upload(2).await.unwrap());
    assert_eq!(keys().await, sorted(vec![first.key.clone(), second.key.clone()]));
    let running = cluster.run(&second.key, "endless", &[]).await.unwrap();
    let third = upload(3).await.unwrap();
    assert_eq!(keys().await, sorted(vec![second.key.clone(), third.key.clone()]), "the oldest went");
    let also_running = cluster.run(&third.key, "endless", &[]).await.unwrap();
    let refused = upload(4).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, GatewayError::NoSpace(_)) && text.contains("weir.artifacts.max-total-size"), "{text}");
    assert_eq!(keys().await, sorted(vec![second.key, third.key.clone()]));
    cluster.gateway.cancel(running).await.unwrap();
    cluster.job_until(running, "canceled", |view| view.summary.status.is_terminal()).await;
    // The job lets go of its artifact a moment after it is shown to have ended.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let fourth = loop {
        match upload(4).await {
            Ok(fourth) => break fourth,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    };
    assert_eq!(keys().await, sorted(vec![third.key, fourth.key]));
    cluster.gateway.cancel(also_running).await.unwrap();
}
