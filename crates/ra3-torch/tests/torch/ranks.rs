//! A worker of several processes: what it computes, and how it fails.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ra3::policy::{Objective, Policy, PolicyError, Surrogate};
use ra3_lm::config::Architecture;
use ra3_torch::{Port, TorchModel, Worker, WorkerError, WorkerSettings};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::contract_model::subject;
use crate::{base, examples, for_contract, has_torch, python, settings};

/// Settings of a worker of so many processes.
fn settings_of(folder: &Path, n_processes: usize) -> WorkerSettings {
    let mut settings = settings(&[&python()], folder);
    settings.n_processes = n_processes;
    settings
}

#[test]
fn two_ranks_keep_the_contract() {
    static MADE: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let (folder, worker) = MADE
            .get_or_init(|| for_contract(Architecture::Qwen2, |settings| settings.n_processes = 2));
        Box::new(TorchModel::load(worker, folder.path()).expect("a model"))
    }
    if has_torch() {
        ra3_contract::check(subject(make, true));
    }
}

#[test]
fn ranks_that_have_a_part_each_keep_the_contract() {
    static MADE: OnceLock<(TempDir, Arc<Worker>)> = OnceLock::new();
    fn make() -> Box<dyn Policy> {
        let (folder, worker) = MADE.get_or_init(|| {
            for_contract(Architecture::Llama, |settings| {
                settings.n_processes = 2;
                settings.models.sharding = "full".to_owned();
            })
        });
        Box::new(TorchModel::load(worker, folder.path()).expect("a model"))
    }
    if has_torch() {
        ra3_contract::check(subject(make, true));
    }
}

/// Numbers of the processes of a worker whose files lie in a folder, by rank.
fn processes_in(folder: &Path) -> Vec<(u32, Pid)> {
    let folder = folder.canonicalize().expect("our own");
    let rank = |place: &Path| {
        let variables = fs::read(place.join("environ")).ok()?;
        let text = String::from_utf8_lossy(&variables).into_owned();
        let mut ranks = text
            .split('\0')
            .filter_map(|word| word.strip_prefix("RANK="));
        ranks.next()?.parse().ok()
    };
    let mut found: Vec<(u32, Pid)> = fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| {
            let place = entry.ok()?.path();
            let id = place.file_name()?.to_str()?.parse().ok()?;
            let is_ours = fs::read_link(place.join("cwd")).ok()?.starts_with(&folder);
            is_ours.then_some((rank(&place)?, Pid::from_raw(id)?))
        })
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found
}

fn assert_all_gone(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(20);
    while !processes_in(folder).is_empty() {
        assert!(Instant::now() < until, "a rank goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const OBJECTIVE: Objective = Objective {
    surrogate: Surrogate::LogLikelihood,
    learning_rate: 1e-3,
};

#[test]
fn a_loss_that_is_not_finite_is_of_a_rank_and_a_killed_rank_is_named() {
    if !has_torch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let worker = Worker::start(&settings_of(folder.path(), 2)).expect("a worker");
    assert_eq!(worker.about().n_processes, 2);
    let mut model = TorchModel::load(&worker, &base()).expect("a model");
    let mut vast = examples();
    vast[3].weights[4..].fill(f32::MAX);
    let error = model.update(&vast, OBJECTIVE).expect_err("no number");
    let PolicyError::Engine { reason } = &error else {
        panic!("{error}");
    };
    assert!(reason.starts_with("rank 1, at update: the "), "{reason}");
    model.update(&examples(), OBJECTIVE).expect("a good batch");

    let [_, (1, id)] = processes_in(folder.path())[..] else {
        panic!("{:?}", processes_in(folder.path()));
    };
    kill_process(id, Signal::KILL).expect("our own");
    let error = model.update(&examples(), OBJECTIVE).expect_err("no rank");
    let PolicyError::Engine { reason } = &error else {
        panic!("{error}");
    };
    assert!(
        reason.starts_with("rank 1 of the worker has ended (it was at: update); the last of "),
        "{reason}"
    );
    assert!(reason.contains("worker.1.log"), "{reason}");
    assert!(worker.has_failed());
    assert_all_gone(folder.path());

    // Another worker, whose rank 0 is killed.
    let worker = Worker::start(&settings_of(folder.path(), 2)).expect("a worker");
    let model = TorchModel::load(&worker, &base()).expect("a model");
    kill_process(processes_in(folder.path())[0].1, Signal::KILL).expect("our own");
    let error = model.score(&examples()).expect_err("no rank").to_string();
    let said = "rank 0 of the worker has ended (it was at: score); the last of ";
    assert!(error.starts_with(said), "{error}");
    assert_all_gone(folder.path());
}

#[test]
fn a_rank_that_hangs_is_named_and_ended() {
    if !has_torch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = settings_of(folder.path(), 2);
    settings.deadline_s = 45;
    let worker = Worker::start(&settings).expect("a worker");
    let mut model = TorchModel::load(&worker, &base()).expect("a model");
    let (_, id) = processes_in(folder.path())[1];
    kill_process(id, Signal::STOP).expect("our own");
    let error = model.update(&examples(), OBJECTIVE).expect_err("no rank");
    let text = error.to_string();
    for said in [
        "has not answered for 45 seconds",
        "update, waiting for rank 1, which is at update, and silent for",
        "worker.1.log",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert_all_gone(folder.path());
}

#[test]
fn a_rank_that_cannot_start_says_why() {
    if !has_torch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let text = "import os, sys\nif os.environ.get('RANK') == '1': sys.exit('the cause')\n";
    fs::write(folder.path().join("sitecustomize.py"), text).expect("a file");
    let path = format!("PYTHONPATH={}", folder.path().display());
    let mut settings = settings(&["env", &path, &python()], folder.path());
    settings.n_processes = 2;
    let error = Worker::start(&settings).expect_err("no worker");
    assert!(matches!(error, WorkerError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("the cause"), "{error}");
    assert_all_gone(folder.path());
}

/// Ends what it has started.
struct Nodes(Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The line that a user is shown, on two nodes of this machine.
#[test]
fn a_worker_of_two_nodes_comes_to_a_port() {
    if !has_torch() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let ports = [0, 1].map(|_| free.local_addr().expect("an address").port());
    drop(free);
    let mut settings = settings_of(folder.path(), 1);
    settings.port = Some(Port {
        address: format!("127.0.0.1:{}", ports[0]),
        token_file: folder.path().join("token"),
    });
    let line = settings.line().expect("a token").expect("a line");
    let token = fs::read_to_string(folder.path().join("token")).expect("a token");
    assert!(!line.contains(token.trim()), "{line}");
    let waiting = std::thread::spawn({
        let settings = settings.clone();
        move || Worker::start(&settings)
    });
    let node = |rank: usize| {
        let master = ports[0] ^ 1;
        let nodes =
            format!("--nnodes=2 --node-rank={rank} --master-addr=127.0.0.1 --master-port={master}");
        let line = line.replace("--nnodes=1", &nodes);
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("export {}; exec {}", words(&line)[0], words(&line)[1]),
        ]);
        command
            .env("GLOO_SOCKET_IFNAME", "lo")
            .stdout(Stdio::null());
        command.spawn().expect("a shell")
    };
    let _nodes = Nodes((0..2).map(node).collect());
    let worker = waiting.join().expect("no panic").expect("a worker");
    assert_eq!(worker.about().n_processes, 2);
    let model = TorchModel::load(&worker, &base()).expect("a model");
    let (scores, _) = model.score(&examples()).expect("sequences");
    let near = TorchModel::load(crate::worker(), &base()).expect("a model");
    assert_eq!(scores, near.score(&examples()).expect("sequences").0);
    assert!(matches!(
        TorchModel::load(&worker, &folder.path().join("none")),
        Err(WorkerError::Request(_))
    ));
}

/// The variables of a line, and its command.
fn words(line: &str) -> [String; 2] {
    let (variables, command): (Vec<&str>, Vec<&str>) = line.split(' ').partition(|word| {
        word.split_once('=')
            .is_some_and(|(name, _)| !name.starts_with('-'))
    });
    [variables.join(" "), command.join(" ")]
}
