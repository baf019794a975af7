//! `TensorBoard` event files beside the ledger: its numbers, by update.
//!
//! They are a copy and nothing reads them back, and they hold wall times, so they are no part of
//! what is committed or compared. A stage is a run of `TensorBoard`'s. Each process that continues
//! a stage begins a file of its own, whose first event says from which step on it counts: what an
//! earlier process wrote behind its last commit is then left out by `TensorBoard`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use prost::Message;

use crate::ledger::{HeldOutRecord, Record, ScoreRecord, UpdateRecord};

/// The folder in a run directory.
pub const FOLDER: &str = "tensorboard";
/// The file beside event files that says which stage they are of.
pub const EVENTS_OF: &str = "stage-key";

/// The event file of a stage, made when it first has something to say.
#[derive(Debug)]
pub struct EventFile {
    folder: PathBuf,
    key: String,
    open: Option<File>,
}

impl EventFile {
    /// In a folder, of the stage of a key; nothing is written yet.
    pub fn new(folder: &Path, key: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            key: key.to_owned(),
            open: None,
        }
    }

    /// Appends what a record has to plot.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        // A step is a number of updates. That a process begins at some step overrules later ones
        // alone, so the score of a stage after so many updates stays.
        let (step, values) = match record {
            Record::Update(update) => (update.position + 1, of_update(update)),
            Record::Score(score) => (score.position, of_score(score)),
            Record::HeldOut(held_out) => (0, of_held_out(held_out)),
            Record::Run(_) | Record::Corpus(_) | Record::Stage(_) => return Ok(()),
        };
        let value = |(tag, x)| Value { tag, x: Some(x) };
        let event = Event {
            summary: Some(Summary {
                values: values.into_iter().map(value).collect(),
            }),
            ..Event::at(step)
        };
        let file = match &mut self.open {
            Some(open) => open,
            place => place.insert(begin(&self.folder, &self.key, step)?),
        };
        write(file, &event).with_context(|| format!("cannot write to {}", self.folder.display()))
    }
}

/// A stage's next file. It begins with the format's version, and with the step from which on older
/// files are overruled.
fn begin(folder: &Path, key: &str, step: u64) -> Result<File> {
    let context = || format!("cannot write to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    ra3_files::write(&folder.join(EVENTS_OF), key.as_bytes())?;
    let n_before = std::fs::read_dir(folder).with_context(context)?.count();
    // Readers take the files of a folder in the order of their names.
    let seconds = now() as u64;
    let path = folder.join(format!(
        "events.out.tfevents.{seconds:010}.ra3.{n_before:05}"
    ));
    let mut file = File::create_new(&path).with_context(context)?;
    let version = Event {
        file_version: Some("brain.Event:2".to_owned()),
        ..Event::at(0)
    };
    let start = Event {
        session: Some(Session { status: START }),
        ..Event::at(step)
    };
    for event in [version, start] {
        write(&mut file, &event).with_context(context)?;
    }
    Ok(file)
}

fn of_update(update: &UpdateRecord) -> Vec<(String, f32)> {
    let figures = update.figures.iter();
    let figures = figures.map(|(name, x)| (format!("{}/{name}", update.phase), *x));
    let spent = [
        ("spent/corpus_tokens", update.n_corpus_tokens as f64),
        ("spent/tokens_sampled", update.n_tokens_sampled as f64),
        ("spent/flops", update.flops),
    ];
    let spent = spent.map(|(name, x)| (name.to_owned(), x));
    figures
        .chain(spent)
        .map(|(name, x)| (name, x as f32))
        .collect()
}

fn of_score(score: &ScoreRecord) -> Vec<(String, f32)> {
    let pass_at = score.pass_at.iter();
    pass_at
        .map(|(k, pass)| {
            (
                format!("score/pass@{k}/{}", score.decision),
                pass.mean as f32,
            )
        })
        .collect()
}

fn of_held_out(held_out: &HeldOutRecord) -> Vec<(String, f32)> {
    let exact = ("bits_per_byte".to_owned(), held_out.bits_per_byte);
    let figures = held_out.bounds.iter().chain(&held_out.latents);
    let figures = figures.map(|(name, x)| (name.clone(), *x));
    std::iter::once(exact)
        .chain(figures)
        .map(|(name, x)| (format!("held_out/{name}"), x as f32))
        .collect()
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Writes a record of TensorFlow's: length, its checksum, event, its checksum. At once, so that who
/// watches sees it, and no part of it.
fn write(file: &mut File, event: &Event) -> std::io::Result<()> {
    let event = event.encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    let record = [
        &length[..],
        &masked_checksum(&length),
        &event,
        &masked_checksum(&event),
    ];
    file.write_all(&record.concat())
}

/// CRC-32C, turned and shifted, so that the checksum of bytes that hold checksums is no weak one.
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c(bytes);
    sum.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// `tensorflow.Event`, the fields that are written here.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

impl Event {
    fn at(step: u64) -> Self {
        Self {
            wall_time: now(),
            step: step as i64,
            ..Self::default()
        }
    }
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

/// `tensorflow.Summary.Value` with a `simple_value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    x: Option<f32>,
}

/// `tensorflow.SessionLog`.
#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.SessionStatus.START`.
const START: i32 = 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn update(stage: &str, position: u64, loss: f64) -> Record {
        Record::Update(UpdateRecord {
            stage: stage.to_owned(),
            phase: "m_step".to_owned(),
            position,
            figures: BTreeMap::from([("loss".to_owned(), loss)]),
            n_corpus_tokens: 10,
            n_tokens_sampled: 20,
            flops: 1e12,
        })
    }

    /// Reads a file as its readers do: by length, both checksums held to what they cover.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let n = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(after[..4], masked_checksum(length));
            let event = &after[4..4 + n];
            assert_eq!(after[4 + n..8 + n], masked_checksum(event));
            events.push(Event::decode(event).unwrap());
            rest = &after[8 + n..];
        }
        events
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = paths.filter(|path| !path.ends_with(EVENTS_OF)).collect();
        paths.sort();
        paths
    }

    #[test]
    fn each_process_begins_a_file_of_its_own_for_each_stage() {
        let run = tempfile::tempdir().unwrap();
        for from in [0, 2] {
            let mut events = EventFile::new(&run.path().join("ra3"), "a1");
            for position in from..from + 3 {
                let record = update("ra3", position, position as f64);
                events.append(&record).unwrap();
            }
            let mut events = EventFile::new(&run.path().join("ntp"), "b2");
            events.append(&update("ntp", 7, f64::NAN)).unwrap();
        }
        let paths = files(&run.path().join("ra3"));
        assert_eq!(paths.len(), 2);
        for (path, from) in paths.iter().zip([0i64, 2]) {
            let events = read(path);
            assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
            let start = (events[1].step, events[1].session.clone());
            assert_eq!(start, (from + 1, Some(Session { status: START })));
            let steps: Vec<i64> = events[2..].iter().map(|event| event.step).collect();
            assert_eq!(steps, [from + 1, from + 2, from + 3]);
            let last = events[4].summary.as_ref().unwrap();
            let found: Vec<(&str, Option<f32>)> = last
                .values
                .iter()
                .map(|value| (&value.tag[..], value.x))
                .collect();
            let expected = [
                ("m_step/loss", Some(from as f32 + 2.0)),
                ("spent/corpus_tokens", Some(10.0)),
                ("spent/tokens_sampled", Some(20.0)),
                ("spent/flops", Some(1e12)),
            ];
            assert_eq!(found, expected);
        }
        let other = files(&run.path().join("ntp"));
        let events = read(&other[0]);
        let loss = &events[2].summary.as_ref().unwrap().values[0];
        assert!(loss.x.unwrap().is_nan(), "a diverged run shows as it is");
    }

    /// The words of CRC-32C's authors, masked by hand: `rotate(e3069283, 15) + a282ead8`.
    #[test]
    fn a_checksum_by_hand() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        let expected = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked_checksum(b"123456789"), expected.to_le_bytes());
        assert_eq!(expected, 0xc78a_b0e5);
    }
}
