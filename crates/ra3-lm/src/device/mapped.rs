//! Files mapped into memory, read once and then forgotten part by part.
//!
//! Weights are mapped only while they are loaded: the model has a copy, and nothing reads the file
//! afterwards. A file that is too short when it is opened is refused by its header. One that
//! somebody cuts during those seconds ends the process (SIGBUS), for a mapping cannot say so;
//! checkpoints of this program are replaced by renaming and never cut.

use std::fs::File;
use std::io::Result;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A file's bytes.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    #[expect(unsafe_code, reason = "mapping a file is unsafe: see below")]
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        // SAFETY: checkpoints are replaced by renaming and never changed in place; a file that
        // somebody else cuts while it is read ends this process and damages nothing.
        unsafe { Mmap::map(&file) }.map(Self)
    }

    /// Lets the system forget a part that was read; it would come back from the file.
    #[expect(unsafe_code, reason = "advice on a mapping is unsafe: see below")]
    pub(crate) fn forget(&self, part: &[u8]) {
        let start = part.as_ptr() as usize - self.0.as_ptr() as usize;
        // SAFETY: the mapping is read-only and of a file, so forgotten pages come back as they
        // were. That the advice is taken is not required.
        let _ = unsafe {
            self.0
                .unchecked_advise_range(UncheckedAdvice::DontNeed, start, part.len())
        };
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
