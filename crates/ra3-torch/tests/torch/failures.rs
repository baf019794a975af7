//! A worker that fails says why, and stays failed; nothing of it is left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use ra3::policy::{Example, Policy, PolicyError};
use ra3_torch::{TorchModel, Worker, WorkerError};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::{base, has_torch, python, settings};

/// A Python program that takes the worker's place.
fn stand_in(folder: &Path, text: &str) -> String {
    let path = folder.join("stand-in");
    std::fs::write(
        &path,
        format!("#!/usr/bin/env python3\nimport os, socket, sys, time\n{text}"),
    )
    .expect("a file");
    let run = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, run).expect("a file of our own");
    path.display().to_string()
}

/// What comes of a stand-in that has one second for its answers.
fn failure(text: &str) -> WorkerError {
    let folder = tempfile::tempdir().expect("a folder");
    let program = stand_in(folder.path(), text);
    let mut settings = settings(&[&program], folder.path());
    settings.deadline_s = 1;
    Worker::start(&settings).expect_err("no worker")
}

const CONNECT: &str = "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[-1])\n";

#[test]
fn what_is_no_worker_is_named() {
    let ended = failure("print('the cause', file=sys.stderr)\nsys.exit(3)\n");
    assert!(matches!(ended, WorkerError::Ended { .. }), "{ended}");
    assert!(ended.to_string().contains("the cause"), "{ended}");
    let silent = failure("time.sleep(60)\n");
    assert!(
        matches!(silent, WorkerError::Deadline { deadline_s: 1, .. }),
        "{silent}"
    );
    let hung = failure(&format!("{CONNECT}time.sleep(60)\n"));
    assert!(matches!(hung, WorkerError::Deadline { .. }), "{hung}");
    let garbage = failure(&format!(
        "{CONNECT}s.sendall(b'garbage' * 9)\ntime.sleep(60)\n"
    ));
    assert!(matches!(garbage, WorkerError::Nonsense { .. }), "{garbage}");
    let gone = failure(&format!("{CONNECT}s.recv(9)\n"));
    assert!(matches!(gone, WorkerError::Ended { .. }), "{gone}");
    let folder = tempfile::tempdir().expect("a folder");
    let none = Worker::start(&settings(&["/no/such/python"], folder.path()));
    assert!(matches!(none, Err(WorkerError::Start { .. })));
}

/// A Python of which one knows nothing but that it has no torch.
#[test]
fn a_python_without_torch_says_what_to_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = stand_in(
        folder.path(),
        "sys.path.insert(0, os.getcwd())\nsys.argv = sys.argv[2:]\n\
         import importlib.metadata as m\n\
         def missing(name): raise m.PackageNotFoundError(name)\nm.version = missing\n\
         from ra3_worker.main import main\nmain()\n",
    );
    let error = Worker::start(&settings(&[&program], folder.path())).expect_err("no torch");
    let WorkerError::Libraries(text) = &error else {
        panic!("{error}");
    };
    assert!(text.contains("torch is not installed"), "{text}");
    assert!(
        text.contains("-m pip install --upgrade torch transformers"),
        "{text}"
    );
}

#[test]
fn graphs_where_there_is_no_gpu_are_refused_with_what_to_do() {
    if !has_torch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = settings(&[&python()], folder.path());
    settings.models.cuda_graphs = true;
    let error = Worker::start(&settings).expect_err("no GPU");
    let text = error.to_string();
    assert!(text.contains("device = cpu"), "{text}");
    assert!(text.contains("set engine.cuda_graphs = false"), "{text}");
}

/// A worker whose process number is known.
fn known_worker() -> (TempDir, std::sync::Arc<Worker>, Pid) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("id").display().to_string();
    let python = python();
    let script = format!("echo $$ > {place}; exec {python} \"$@\"");
    let mut settings = settings(&["sh", "-c", &script, "sh"], folder.path());
    settings.deadline_s = 60;
    let worker = Worker::start(&settings).expect("a worker");
    let id = std::fs::read_to_string(&place).expect("a number");
    let id = Pid::from_raw(id.trim().parse().expect("a number")).expect("a number");
    (folder, worker, id)
}

fn one() -> Example {
    Example {
        tokens: vec![1, 2, 3],
        weights: vec![0.0, 1.0, 1.0],
        restrictions: vec![],
        old_logprobs: vec![],
    }
}

fn is_gone(id: Pid) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if test_kill_process(id).is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_worker_that_is_killed_stays_failed() {
    if !has_torch() {
        return;
    }
    let (_folder, worker, id) = known_worker();
    let model = TorchModel::load(&worker, &base()).expect("a model");
    model.score(&[one()]).expect("a sequence");
    kill_process(id, Signal::KILL).expect("our own");
    let first = model.score(&[one()]).expect_err("no worker");
    assert!(matches!(&first, PolicyError::Engine { reason } if reason.contains("has ended")));
    assert!(worker.has_failed());
    assert_eq!(model.score(&[one()]).expect_err("no worker"), first);
    let other = TorchModel::load(&worker, &base()).expect_err("no worker");
    assert!(matches!(other, WorkerError::Ended { .. }), "{other}");
}

#[test]
fn a_worker_ends_with_its_last_model_and_a_bad_folder_ends_nothing() {
    if !has_torch() {
        return;
    }
    let (folder, worker, id) = known_worker();
    let missing = folder.path().join("no-model");
    let error = TorchModel::load(&worker, &missing).expect_err("no model");
    assert!(error.to_string().contains("no-model"), "{error}");
    let model = TorchModel::load(&worker, &base()).expect("a model");
    drop(worker);
    model.score(&[one()]).expect("a sequence");
    let snapshot = model.snapshot();
    drop(model);
    snapshot.score(&[one()]).expect("a sequence");
    drop(snapshot);
    assert!(is_gone(id));
}
