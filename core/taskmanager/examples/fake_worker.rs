//! A worker process for the tests of the TaskManager: speaks the protocol, runs no job, and misbehaves as its arguments say.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use std::{env, process, thread};

use weir_dataflow::storage::{StateStorage, StorageService};
use weir_proto::worker::{self, ExecutionState, to_driver, to_worker};
use weir_proto::{read_frame, roles, write_frame};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Link(UnixStream);

impl Link {
    fn say(&mut self, message: to_driver::Message) -> Result<()> {
        Ok(write_frame(&mut self.0, &worker::ToDriver { message: Some(message) })?)
    }

    fn task(&mut self, subtask: u32, state: ExecutionState) -> Result<()> {
        let change = worker::TaskStateChanged { vertex: 0, subtask, state: state.into(), ..Default::default() };
        self.say(to_driver::Message::TaskStateChanged(change))
    }
}

fn main() -> Result<()> {
    let mode = env::args().nth(1).unwrap_or_default();
    eprintln!("worker in mode {mode}");
    println!("standard output");
    let socket = env::var(roles::WORKER_SOCKET_VARIABLE)?;
    let host = env::var(roles::WORKER_BIND_HOST_VARIABLE)?;
    let mut link = Link(UnixStream::connect(socket)?);
    link.say(to_driver::Message::Hello(worker::Hello {
        protocol_version: if mode == "old" { 1 } else { worker::PROTOCOL_VERSION },
        pid: process::id(),
        job_graph_hash: env::var("HASH")?.parse()?,
        data_address: format!("{host}:4242"),
        worker_index: env::var(roles::WORKER_INDEX_VARIABLE)?.parse()?,
        vertices: vec![worker::VertexInfo {
            id: vec![7; 16],
            name: "Source".to_owned(),
            parallelism: 2,
            ..Default::default()
        }],
    }))?;
    match mode.as_str() {
        "fork" => {
            // One in its group, one in a session of its own, one that has forgotten where it comes from.
            Command::new("sleep").arg("1000").spawn()?;
            Command::new("setsid").args(["sleep", "1001"]).spawn()?;
            Command::new("setsid").args(["sh", "-c", "sleep 1002 & exit"]).spawn()?.wait()?;
        }
        "flood" => {
            thread::spawn(|| {
                let line = "0123456789abcdef".repeat(64) + "\n";
                while std::io::stdout().write_all(line.as_bytes()).is_ok() {}
            });
        }
        "hog" => {
            let memory = vec![1u8; 256 << 20];
            thread::sleep(Duration::from_secs(1000));
            drop(memory);
        }
        "stores" => {
            let folder = env::args().nth(2).unwrap_or_default();
            let storage = StorageService::new(env::var(roles::WORKER_STORAGE_VARIABLE)?).with_copies(true);
            let mut finished = storage.create(&format!("{folder}/chk-1/finished"))?;
            finished.write(b"content")?;
            finished.finish()?;
            let mut unfinished = storage.create(&format!("{folder}/chk-1/unfinished"))?;
            unfinished.write(&vec![1; 3 << 20])?;
            eprintln!("stored {}", String::from_utf8(storage.read(&format!("{folder}/chk-1/finished"), 0, 7)?)?);
            // Its end is that of the process.
            std::mem::forget(unfinished);
        }
        "nonsense" => link.0.write_all(b"this is not a frame")?,
        "closes" => {
            link.0.shutdown(std::net::Shutdown::Both)?;
            thread::sleep(Duration::from_secs(1000));
        }
        _ => {}
    }
    follow_orders(&mut link, &mode)
}

fn follow_orders(link: &mut Link, mode: &str) -> Result<()> {
    while let Some(frame) = read_frame::<worker::ToWorker>(&mut link.0.try_clone()?)? {
        match frame.message {
            Some(to_worker::Message::Deploy(deploy)) => {
                eprintln!("deployed {}", deploy.run_id);
                for subtask in 0..2 {
                    link.task(subtask, ExecutionState::Initializing)?;
                    link.task(subtask, ExecutionState::Running)?;
                }
                link.say(to_driver::Message::SplitRequest(worker::SplitRequest { vertex: 0, subtask: 1 }))?;
                if mode == "abort" {
                    eprintln!("about to abort");
                    process::abort();
                }
            }
            Some(to_worker::Message::SplitResponse(response)) => {
                let task = worker::TaskMetrics { subtask: response.subtask, records_in: 42, ..Default::default() };
                let report = worker::MetricsReport { tasks: vec![task], ..Default::default() };
                link.say(to_driver::Message::MetricsReport(report))?;
                link.task(response.subtask, ExecutionState::Finished)?;
            }
            Some(to_worker::Message::Cancel(cancel)) => {
                for task in cancel.tasks {
                    link.task(task.subtask, ExecutionState::Canceled)?;
                }
            }
            Some(to_worker::Message::Restore(restore)) => {
                eprintln!("restores {} tasks", restore.tasks.len());
            }
            Some(to_worker::Message::TriggerCheckpoint(trigger)) => {
                for task in trigger.tasks {
                    link.say(to_driver::Message::CheckpointAcknowledged(worker::CheckpointAcknowledged {
                        vertex: task.vertex,
                        subtask: task.subtask,
                        checkpoint: trigger.checkpoint,
                        snapshot: vec![1, 2, 3],
                        ..Default::default()
                    }))?;
                }
            }
            Some(to_worker::Message::CheckpointCompleted(completed)) => {
                eprintln!("checkpoint {} is complete", completed.checkpoint);
            }
            Some(to_worker::Message::CheckpointAborted(aborted)) => {
                eprintln!("checkpoint {} is aborted", aborted.checkpoint);
            }
            Some(to_worker::Message::Shutdown(_)) if mode != "stays" => return Ok(()),
            Some(to_worker::Message::Shutdown(_)) | None => {}
        }
    }
    Ok(())
}
