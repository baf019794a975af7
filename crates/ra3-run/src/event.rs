//! What a run tells whoever watches it; the command line draws bars of it.

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A run comes to a stage.
    Stage {
        /// Its name.
        name: String,
        /// Stages before it.
        place: usize,
        /// Stages in all.
        n_stages: usize,
        /// Seconds that this stage and those behind it may take, where none is done yet; `None`
        /// where nothing is known of them.
        seconds_left: Option<f64>,
    },
    /// A stage begins or is taken up again.
    Started {
        /// The stage.
        stage: String,
        /// Units of work that are done already.
        position: u64,
        /// Units of work in all; 0 where that is not known.
        total: u64,
        /// What a unit is (`updates`, `problems`, `documents`).
        unit: &'static str,
    },
    /// The stage has advanced.
    Advanced {
        /// Units of work that are done.
        position: u64,
        /// Tokens since the last event, for a rate.
        n_tokens: u64,
        /// The figures of the moment, for a reader.
        message: String,
    },
    /// The stage is done.
    Finished {
        /// Its outcome in a few words.
        message: String,
    },
    /// A line for the reader.
    Note(String),
}

impl Event {
    /// A stage of unknown length begins.
    pub(crate) fn began(stage: &str) -> Self {
        Self::started(stage, 0, "")
    }

    /// A stage begins, of which nothing is done.
    pub fn started(stage: impl Into<String>, total: u64, unit: &'static str) -> Self {
        Self::Started {
            stage: stage.into(),
            position: 0,
            total,
            unit,
        }
    }

    /// A stage has advanced, which nothing more is said of.
    pub(crate) fn advanced(position: u64) -> Self {
        Self::Advanced {
            position,
            n_tokens: 0,
            message: String::new(),
        }
    }
}

/// Whoever watches a run.
pub type Watcher<'a> = dyn FnMut(Event) + 'a;
