//! A byte-level BPE and the markers of interleaved sequences.
//!
//! Lines are encoded one by one, so no token reaches over a newline into the next line's
//! indentation, and the ids of the lines are the ids that are trained on. Text that happens to
//! contain `<think>` is text, never a marker.

use std::path::Path;
use std::sync::Arc;

use ra3::policy::TokenId;
use ra3::trajectory::Markers;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer as Inner};

use crate::error::CorpusError;

/// End of text of a tokenizer that is trained here, and of one that does not say its own.
pub const END: &str = "<|endoftext|>";
/// Keep the latent.
pub const ACT: &str = "<act>";
/// Switch to the rationale that follows.
pub const THINK: &str = "<think>";
/// End of a rationale.
pub const CLOSE: &str = "</think>";
const SPECIALS: [&str; 4] = [END, ACT, THINK, CLOSE];
/// Holds newlines, spaces at both ends of lines, and letters beyond ASCII.
const PROBE: &str = "def f(x):\n    return 'é' + x\n\n\nclass C:\n\tpass\n";

/// Words with their space, digits one by one, punctuation with the newlines behind it, newlines,
/// spaces: the division that Qwen's and Llama 3's tokenizers share, with single digits.
const PATTERN: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Text to ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    markers: Markers,
    begin: TokenId,
    adds_begin: bool,
    line_ends: Arc<[bool]>,
}

/// What `tokenizer_config.json` says.
#[derive(Debug, Default)]
struct Named {
    begin: Option<String>,
    end: Option<String>,
    /// It says that nothing is put before a text.
    is_bare: bool,
}

impl Tokenizer {
    /// Trains a BPE of `n_vocabulary` tokens, markers included, on the lines of texts.
    ///
    /// # Errors
    /// The trainer refuses, which it does for a vocabulary below the 256 bytes and the markers.
    pub fn train(texts: &[String], n_vocabulary: usize) -> Result<Self, CorpusError> {
        let lines = texts.iter().flat_map(|text| chunks(text));
        Self::train_on(lines, n_vocabulary, PATTERN)
    }

    /// Trains a BPE on whole texts with the division of another family, a regular expression.
    ///
    /// # Errors
    /// As [`Self::train`], or the pattern is none.
    pub fn train_like(
        texts: &[String],
        n_vocabulary: usize,
        pattern: &str,
    ) -> Result<Self, CorpusError> {
        Self::train_on(texts.iter().map(String::as_str), n_vocabulary, pattern)
    }

    fn train_on<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        n_vocabulary: usize,
        pattern: &str,
    ) -> Result<Self, CorpusError> {
        let fail = |error: tokenizers::Error| failure(Path::new("(training)"), error.to_string());
        let mut inner = Inner::new(BPE::default());
        inner.with_pre_tokenizer(Some(pre_tokenizer(pattern).map_err(fail)?));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::new(
            false, false, false,
        ))));
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
            .vocab_size(n_vocabulary)
            .show_progress(false)
            .initial_alphabet(alphabet.into_iter().collect())
            .special_tokens(SPECIALS.map(special).to_vec())
            .build()
            .into();
        let texts = texts.map(str::to_owned);
        inner.train::<_, _, _>(&mut trainer, texts).map_err(fail)?;
        Self::new(inner, &Named::default(), Path::new("(training)"))
    }

    /// Reads a `tokenizer.json`, and the begin and end of text from `tokenizer_config.json` beside
    /// it; markers that it lacks are added.
    ///
    /// # Errors
    /// The file is missing or no tokenizer, or it does not give back the lines that it was given.
    pub fn load(path: &Path) -> Result<Self, CorpusError> {
        let inner = Inner::from_file(path).map_err(|error| failure(path, error.to_string()))?;
        let named = named(&path.with_file_name("tokenizer_config.json"))?;
        Self::new(inner, &named, path)
    }

    fn new(mut inner: Inner, named: &Named, path: &Path) -> Result<Self, CorpusError> {
        let end = named.end.as_deref().unwrap_or(END);
        inner.add_special_tokens(&[end, ACT, THINK, CLOSE].map(special));
        let id = |text: &str| {
            inner
                .token_to_id(text)
                .ok_or_else(|| failure(path, format!("{text} has no id")))
        };
        let markers = Markers {
            act: id(ACT)?,
            think: id(THINK)?,
            close: id(CLOSE)?,
            end: id(end)?,
        };
        let begin = named.begin.as_deref().map_or(Ok(markers.end), id)?;
        // Ids may have gaps: the last one counts.
        let n = inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id + 1);
        // In the byte alphabet of BPE files a newline is the letter Ċ.
        let ends = |token: TokenId| inner.id_to_token(token).is_some_and(|t| t.ends_with('Ċ'));
        let line_ends: Arc<[bool]> = (0..n).map(ends).collect();
        // Ids in text must never be markers.
        inner.set_encode_special_tokens(true);
        let tokenizer = Self {
            inner,
            markers,
            begin,
            adds_begin: !named.is_bare,
            line_ends,
        };
        if tokenizer.decode(&tokenizer.encode(PROBE)) == PROBE {
            Ok(tokenizer)
        } else {
            let reason = "it does not give back the lines that it was given; line-actions need a \
                          byte-level BPE such as Qwen's or Llama 3's";
            Err(failure(path, reason.to_owned()))
        }
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), CorpusError> {
        let path = folder.join("tokenizer.json");
        self.inner
            .save(&path, true)
            .map_err(|error| failure(&path, error.to_string()))?;
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": END,
            "clean_up_tokenization_spaces": false,
        });
        let path = folder.join("tokenizer_config.json");
        std::fs::write(&path, format!("{config:#}\n"))
            .map_err(|source| CorpusError::Write { path, source })
    }

    /// The ids of a text: those of its lines, one after the other.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        self.encode_lines(text).concat()
    }

    /// The ids of a text that is not cut into lines: what cutting is measured against.
    pub fn encode_whole(&self, text: &str) -> Vec<TokenId> {
        let encoding = self.inner.encode_fast(text, false);
        encoding
            .expect("a byte-level BPE encodes any text")
            .get_ids()
            .to_vec()
    }

    /// The ids of a rendered conversation, in which the names of special tokens are those tokens.
    pub fn encode_chat(&self, text: &str) -> Vec<TokenId> {
        let added = self.inner.get_added_tokens_decoder();
        let specials: Vec<(&str, TokenId)> = added
            .iter()
            .map(|(id, token)| (token.content.as_str(), *id))
            .collect();
        let (mut ids, mut rest) = (Vec::new(), text);
        loop {
            // The first in the text; of several at one place, the longest.
            let next = specials
                .iter()
                .filter_map(|(name, id)| Some((rest.find(name)?, name.len(), *id)))
                .min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)));
            let Some((at, length, id)) = next else {
                ids.extend(self.encode(rest));
                return ids;
            };
            ids.extend(self.encode(&rest[..at]));
            ids.push(id);
            rest = &rest[at + length..];
        }
    }

    /// The ids of each line; a line ends with the first token that ends with a newline.
    pub fn encode_lines(&self, text: &str) -> Vec<Vec<TokenId>> {
        let mut lines = Vec::new();
        for chunk in chunks(text) {
            let encoding = self
                .inner
                .encode_fast(chunk, false)
                .expect("a byte-level BPE encodes any text");
            let mut line = Vec::new();
            for id in encoding.get_ids() {
                line.push(*id);
                if self.line_ends[*id as usize] {
                    lines.push(std::mem::take(&mut line));
                }
            }
            if !line.is_empty() {
                lines.push(line);
            }
        }
        lines
    }

    /// The text of ids, markers written out; bytes that are no UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut text = String::new();
        let markers = [
            self.markers.end,
            self.markers.act,
            self.markers.think,
            self.markers.close,
        ];
        for part in ids.chunk_by(|a, b| markers.contains(a) == markers.contains(b)) {
            if markers.contains(&part[0]) {
                let names = part.iter().filter_map(|id| self.inner.id_to_token(*id));
                text.extend(names);
            } else {
                text += &self
                    .inner
                    .decode(part, true)
                    .expect("every id is in the vocabulary");
            }
        }
        text
    }

    /// The ids of the markers.
    pub fn markers(&self) -> Markers {
        self.markers
    }

    /// By id: true if the token ends with a newline.
    pub fn line_ends(&self) -> Arc<[bool]> {
        Arc::clone(&self.line_ends)
    }

    /// What a document begins with: the begin of text, or the end where there is none.
    pub fn begin(&self) -> TokenId {
        self.begin
    }

    /// What others put before a text for this tokenizer: [`Self::begin`], or nothing where its
    /// configuration says so, as Qwen's does.
    pub fn customary_begin(&self) -> Option<TokenId> {
        self.adds_begin.then_some(self.begin)
    }

    /// One past the largest id, markers included.
    pub fn vocab_size(&self) -> usize {
        self.line_ends.len()
    }
}

/// The names of the begin and end of text; none where there is no such file.
fn named(path: &Path) -> Result<Named, CorpusError> {
    if !path.exists() {
        return Ok(Named::default());
    }
    let text = std::fs::read_to_string(path).map_err(|source| CorpusError::Read {
        path: path.to_owned(),
        source,
    })?;
    let file: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failure(path, error.to_string()))?;
    // A token is its text, or an object that has it.
    let token = |key: &str| {
        let named = file[key].as_str().or_else(|| file[key]["content"].as_str());
        named.map(str::to_owned)
    };
    Ok(Named {
        begin: token("bos_token"),
        end: token("eos_token"),
        is_bare: file["add_bos_token"].as_bool() == Some(false),
    })
}

/// Lines with their newline and the blank lines after them; together they are the text.
fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let (mut start, bytes) = (0, text.as_bytes());
    for at in 0..bytes.len() {
        let ends = bytes[at] == b'\n' && bytes.get(at + 1) != Some(&b'\n');
        if ends {
            chunks.push(&text[start..=at]);
            start = at + 1;
        }
    }
    if start < text.len() {
        chunks.push(&text[start..]);
    }
    chunks
}

fn pre_tokenizer(pattern: &str) -> Result<PreTokenizerWrapper, tokenizers::Error> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, false, false);
    let parts = vec![
        PreTokenizerWrapper::Split(split),
        PreTokenizerWrapper::ByteLevel(bytes),
    ];
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(parts)))
}

fn special(text: &str) -> AddedToken {
    AddedToken::from(text, true)
}

fn failure(path: &Path, reason: String) -> CorpusError {
    CorpusError::Tokenizer {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        let text = "def f(xs):\n    for x in xs:\n        y = x + 12\n\n    return y\n".repeat(3);
        Tokenizer::train(&[text], 320).unwrap()
    }

    #[test]
    fn lines_keep_their_ids_and_end_with_a_newline() {
        let tokenizer = tokenizer();
        let text = "def g(a):\n\n\n    return a * 37\n<think> é\u{1F600}\n";
        let lines = tokenizer.encode_lines(text);
        assert_eq!(lines.concat(), tokenizer.encode(text));
        assert_eq!(tokenizer.decode(&lines.concat()), text);
        let ends = tokenizer.line_ends();
        for line in &lines {
            let n_ends = line.iter().filter(|id| ends[**id as usize]).count();
            assert_eq!((n_ends, ends[line[line.len() - 1] as usize]), (1, true));
        }
        let markers = tokenizer.markers();
        assert!(
            !lines.concat().contains(&markers.think),
            "text is never a marker"
        );
        assert_eq!(
            tokenizer.decode(&[markers.think, markers.close]),
            "<think></think>"
        );
    }

    #[test]
    fn a_saved_tokenizer_is_the_same() {
        let tokenizer = tokenizer();
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
        let text = "x = [1, 23]\n    <act> # half\n";
        assert_eq!(tokenizer.encode(text), again.encode(text));
        assert_eq!(
            (tokenizer.markers(), tokenizer.vocab_size()),
            (again.markers(), again.vocab_size())
        );
        assert!(Tokenizer::load(&dir.path().join("none.json")).is_err());
        let markers = tokenizer.markers();
        let chat = tokenizer.encode_chat("<think>x\n</think></think>y");
        let text = |text: &str| tokenizer.encode(text);
        let expected = [
            vec![markers.think],
            text("x\n"),
            vec![markers.close; 2],
            text("y"),
        ];
        assert_eq!(chat, expected.concat());
        assert_eq!(again.begin(), again.markers().end);
    }

    #[test]
    fn begin_and_end_are_those_that_the_folder_names() {
        let dir = tempfile::tempdir().unwrap();
        tokenizer().save(dir.path()).unwrap();
        let config = r#"{"bos_token": {"content": "<|begin|>"}, "eos_token": "<|end|>"}"#;
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let path = dir.path().join("tokenizer.json");
        let error = Tokenizer::load(&path).unwrap_err().to_string();
        assert!(error.contains("<|begin|> has no id"), "{error}");
        let config = config.replace("<|begin|>", "<think>");
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let named = Tokenizer::load(&path).unwrap();
        assert_eq!(named.begin(), named.markers().think);
        assert_eq!(named.decode(&[named.markers().end]), "<|end|>");
        assert_eq!(named.vocab_size(), tokenizer().vocab_size() + 1);
    }
}
