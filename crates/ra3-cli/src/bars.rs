//! Progress bars of a run in a terminal; plain lines where standard error is no terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use ra3_run::event::Event;
use ra3_run::visible::visible;

use crate::output::tell;

/// Seconds of a run that are not worth a word.
const SHORT: f64 = 5.0;

/// Draws the events of a run.
#[derive(Debug)]
pub(crate) struct Bars {
    bar: Option<ProgressBar>,
    /// `3/12`: which of a run's stages this is.
    place: String,
    /// Seconds that the run may take from the beginning of the stage on.
    seconds_left: Option<f64>,
    stage: String,
    position: u64,
    from: u64,
    total: u64,
    n_tokens: u64,
    since: Instant,
    last_line: Instant,
    is_terminal: bool,
}

impl Bars {
    /// Nothing is drawn before the first event.
    pub(crate) fn new() -> Self {
        Self {
            bar: None,
            place: String::new(),
            seconds_left: None,
            stage: String::new(),
            position: 0,
            from: 0,
            total: 0,
            n_tokens: 0,
            since: Instant::now(),
            last_line: Instant::now(),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Draws one event.
    pub(crate) fn show(&mut self, event: Event) {
        match event {
            Event::Stage {
                place,
                n_stages,
                seconds_left,
                ..
            } => {
                self.place = format!("{}/{n_stages} ", place + 1);
                self.seconds_left = seconds_left;
            }
            Event::Started {
                stage,
                position,
                total,
                unit,
            } => {
                self.start(stage, position, total, unit);
            }
            Event::Advanced {
                position,
                n_tokens,
                message,
            } => {
                self.advance(position, n_tokens, &message);
            }
            Event::Finished { message } => self.finish(&message),
            Event::Note(text) => self.line(&text),
        }
    }

    fn start(&mut self, stage: String, position: u64, total: u64, unit: &str) {
        self.n_tokens = 0;
        self.since = Instant::now();
        self.last_line = Instant::now();
        (self.position, self.from, self.total) = (position, position, total);
        if self.is_terminal {
            let bar = if total > 0 {
                ProgressBar::new(total)
            } else {
                ProgressBar::new_spinner()
            };
            bar.set_style(style(total, unit));
            bar.set_prefix(format!("{}{stage}", self.place));
            bar.set_position(position);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        } else if position > 0 {
            let place = &self.place;
            self.line(&format!(
                "{place}{stage}: taken up at {position} of {total} {unit}"
            ));
        } else if total > 0 {
            let in_all = self.left_in_all();
            self.line(&format!("{}{stage}: {total} {unit}{in_all}", self.place));
        } else {
            self.line(&format!("{}{stage}", self.place));
        }
        self.stage = stage;
    }

    fn advance(&mut self, position: u64, n_tokens: u64, message: &str) {
        self.n_tokens += n_tokens;
        self.position = position;
        let rate = self.n_tokens as f64 / self.since.elapsed().as_secs_f64().max(1e-3);
        // Not every kind of work has tokens.
        let text = if self.n_tokens > 0 {
            format!("{message}  {rate:.0} tok/s")
        } else {
            message.to_owned()
        };
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(format!("{text}{}", self.left_in_all()));
        } else if self.last_line.elapsed() >= Duration::from_secs(10) {
            self.last_line = Instant::now();
            let left = self.left();
            self.line(&format!(
                "{}: {position}/{}{left}{}  {text}",
                self.stage,
                self.total,
                self.left_in_all()
            ));
        }
    }

    /// Seconds left of a stage by its rate so far, where its length is known.
    fn seconds_of_stage(&self) -> Option<f64> {
        let n_done = self.position.saturating_sub(self.from);
        if n_done == 0 || self.total <= self.position {
            return None;
        }
        let each = self.since.elapsed().as_secs_f64() / n_done as f64;
        Some(each * (self.total - self.position) as f64)
    }

    fn left(&self) -> String {
        let seconds = self.seconds_of_stage();
        seconds.map_or_else(String::new, |seconds| format!(", {} left", words(seconds)))
    }

    /// The time left of the whole run: by the plan's estimate and the stages so far, and not less
    /// than that of the stage.
    fn left_in_all(&self) -> String {
        let Some(seconds) = self.seconds_left else {
            return String::new();
        };
        let left = seconds - self.since.elapsed().as_secs_f64();
        let left = left.max(self.seconds_of_stage().unwrap_or(0.0));
        if left < SHORT {
            return String::new();
        }
        format!(", about {} in all", words(left))
    }

    fn finish(&mut self, message: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = self.since.elapsed().as_secs_f64();
        self.line(&format!("{:<24} {seconds:>7.1} s  {message}", self.stage));
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(visible(text)),
            None => tell(text),
        }
    }
}

fn words(seconds: f64) -> HumanDuration {
    HumanDuration(Duration::from_secs_f64(seconds.clamp(0.0, 1e12)))
}

fn style(total: u64, unit: &str) -> ProgressStyle {
    let template = if total > 0 {
        format!("{{prefix:<16}} {{bar:12}} {{pos}}/{{len}} {unit} {{eta}} left  {{wide_msg}}")
    } else {
        "{prefix:<16} {spinner} {elapsed}  {wide_msg}".to_owned()
    };
    ProgressStyle::with_template(&template).expect("the template is a constant")
}
