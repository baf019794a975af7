//! A byte-level BPE and the markers of interleaved sequences.
//!
//! Lines are encoded one by one, so no token reaches over a newline into the next line's
//! indentation, and the ids of the lines are the ids that are trained on. Text that happens to
//! contain `<think>` is text, never a marker. A prompt begins as transformers begins it, which the
//! file's own post-processor says; options of a call that stand in a file (truncation, padding,
//! dropout of merges) are none of the model's and are left out.

mod alphabet;
mod named;
mod probe;

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
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, Tokenizer as Inner};

use self::alphabet::Alphabet;
use self::named::Named;
use crate::error::TextError;

/// End of text of a tokenizer that is trained here, and of one that does not say its own.
pub const END: &str = "<|endoftext|>";
/// Keep the latent.
pub const ACT: &str = "<act>";
/// Switch to the rationale that follows.
pub const THINK: &str = "<think>";
/// End of a rationale.
pub const CLOSE: &str = "</think>";
const SPECIALS: [&str; 4] = [END, ACT, THINK, CLOSE];
/// Far above every vocabulary.
const IDS_MAX: usize = 1 << 24;

/// Words with their space, digits one by one, punctuation with the newlines behind it, newlines,
/// spaces: the division that Qwen's and Llama 3's tokenizers share, with single digits.
const PATTERN: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Text to ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// As the file has it, with the markers: for conversations, where the names of added tokens are
    /// those tokens.
    inner: Inner,
    /// For code, where the names of special tokens are text and no added token takes the spaces
    /// beside it.
    text: Inner,
    named: Named,
    markers: Markers,
    begin: TokenId,
    prompt_begin: Vec<TokenId>,
    tokens: Arc<[Token]>,
    line_ends: Arc<[bool]>,
}

/// What an id stands for.
#[derive(Clone, Debug, Default)]
struct Token {
    bytes: Box<[u8]>,
    is_special: bool,
}

impl Tokenizer {
    /// Trains a BPE of `n_vocabulary` tokens, markers included, on the lines of texts.
    ///
    /// # Errors
    /// The trainer refuses, which it does for a vocabulary below the 256 bytes and the markers.
    pub fn train(texts: &[String], n_vocabulary: usize) -> Result<Self, TextError> {
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
    ) -> Result<Self, TextError> {
        Self::train_on(texts.iter().map(String::as_str), n_vocabulary, pattern)
    }

    fn train_on<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        n_vocabulary: usize,
        pattern: &str,
    ) -> Result<Self, TextError> {
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
        let beginning = beginning(&inner);
        inner.with_post_processor(Some(beginning));
        Self::new(inner, Named::ours(), Path::new("(training)"))
    }

    /// Reads a `tokenizer.json`, and the begin and end of text from the files beside it; markers
    /// that it lacks are added.
    ///
    /// # Errors
    /// The file is missing or no tokenizer, or its ids and texts do not go both ways.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        let bytes = std::fs::read(path).map_err(|error| failure(path, absence(path, &error)))?;
        if bytes.starts_with(b"version https://git-lfs") {
            let reason = "this is a pointer of Git LFS and not the file: run `git lfs pull`";
            return Err(failure(path, reason.to_owned()));
        }
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let inner = Inner::from_bytes(bytes).map_err(|error| failure(path, error.to_string()))?;
        Self::new(inner, Named::beside(path)?, path)
    }

    fn new(mut inner: Inner, named: Named, path: &Path) -> Result<Self, TextError> {
        drop_options(&mut inner).map_err(|error| failure(path, error.to_string()))?;
        let named_end = named.end_id.and_then(|id| inner.id_to_token(id));
        let end = named.end.clone().or(named_end);
        let end = end.as_deref().unwrap_or(END);
        add_markers(&mut inner, [end, ACT, THINK, CLOSE]);
        let id = |text: &str| {
            inner.token_to_id(text).ok_or_else(|| {
                let reason = format!("{text} has no id, and tokenizer_config.json names it");
                failure(path, reason)
            })
        };
        let markers = Markers {
            act: id(ACT)?,
            think: id(THINK)?,
            close: id(CLOSE)?,
            end: id(end)?,
        };
        let begin = named.begin.as_deref().map_or(Ok(markers.end), id)?;
        let tokens = tokens(&inner).map_err(|reason| failure(path, reason))?;
        let ends = |token: &Token| !token.is_special && token.bytes.ends_with(b"\n");
        let tokenizer = Self {
            text: for_code(&inner),
            prompt_begin: prompt_begin(&inner).map_err(|reason| failure(path, reason))?,
            line_ends: tokens.iter().map(ends).collect(),
            tokens,
            inner,
            named,
            markers,
            begin,
        };
        probe::check(&tokenizer).map_err(|reason| failure(path, reason))?;
        Ok(tokenizer)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), TextError> {
        let path = folder.join("tokenizer.json");
        let text = self
            .to_text()
            .map_err(|error| failure(&path, error.to_string()))?;
        std::fs::write(&path, text).map_err(|source| TextError::Write(path.clone(), source))?;
        let config = self.named.to_text(&self.name_of(self.markers.end));
        let path = folder.join("tokenizer_config.json");
        std::fs::write(&path, config).map_err(|source| TextError::Write(path, source))
    }

    /// The file. The markers of latents are no special tokens in it: a server that leaves special
    /// tokens out of its text would leave rationales in and their ends out.
    fn to_text(&self) -> Result<String, tokenizers::Error> {
        let mut file: serde_json::Value = serde_json::from_str(&self.inner.to_string(false)?)?;
        for token in file["added_tokens"].as_array_mut().into_iter().flatten() {
            let is_marker = [ACT, THINK, CLOSE]
                .iter()
                .any(|name| token["content"] == **name);
            if is_marker {
                token["special"] = false.into();
            }
        }
        Ok(serde_json::to_string_pretty(&file)?)
    }

    /// The ids of a text: those of its lines, one after the other.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        self.encode_lines(text).concat()
    }

    /// The ids of a text that is to be continued: what transformers puts before a text (Llama 3's
    /// begin, nothing for Qwen's and GPT-2's), and the text. Where that is nothing at all, the
    /// begin of text, or the end that stands before each text in training: a model continues
    /// something.
    pub fn encode_prompt(&self, text: &str) -> Vec<TokenId> {
        let ids = [self.prompt_begin.clone(), self.encode(text)].concat();
        if ids.is_empty() {
            vec![self.begin]
        } else {
            ids
        }
    }

    /// The ids of a text that is not cut into lines: what cutting is measured against.
    pub fn encode_whole(&self, text: &str) -> Vec<TokenId> {
        encode(&self.text, text)
    }

    /// The ids of a rendered conversation, in which the names of added tokens are those tokens. It
    /// is not cut into lines: its ids are those of transformers.
    pub fn encode_chat(&self, text: &str) -> Vec<TokenId> {
        encode(&self.inner, text)
    }

    /// The ids of each line; a line ends with the first token that ends with a newline.
    pub fn encode_lines(&self, text: &str) -> Vec<Vec<TokenId>> {
        let mut lines = Vec::new();
        for chunk in chunks(text) {
            let mut line = Vec::new();
            for id in encode(&self.text, chunk) {
                line.push(id);
                if self.line_ends[id as usize] {
                    lines.push(std::mem::take(&mut line));
                }
            }
            if !line.is_empty() {
                lines.push(line);
            }
        }
        lines
    }

    /// The text of ids, markers written out and other special tokens left out; bytes that are no
    /// UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let Markers {
            act,
            think,
            close,
            end,
        } = self.markers;
        let mut bytes = Vec::new();
        for id in ids {
            // Rows of the embedding beyond the vocabulary have no text.
            let Some(token) = self.tokens.get(*id as usize) else {
                continue;
            };
            if !token.is_special || [act, think, close, end].contains(id) {
                bytes.extend_from_slice(&token.bytes);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The name of a token, special ones included.
    pub fn name_of(&self, id: TokenId) -> String {
        let bytes = self.tokens.get(id as usize).map(|token| &token.bytes);
        bytes.map_or_else(String::new, |bytes| {
            String::from_utf8_lossy(bytes).into_owned()
        })
    }

    /// The ids of the markers.
    pub fn markers(&self) -> Markers {
        self.markers
    }

    /// By id: true if the token ends with a newline.
    pub fn line_ends(&self) -> Arc<[bool]> {
        Arc::clone(&self.line_ends)
    }

    /// The ids of the tokens that end with a newline.
    pub fn newlines(&self) -> impl Iterator<Item = TokenId> {
        let ends = self.line_ends.iter().zip(0..);
        ends.filter_map(|(is_end, id)| is_end.then_some(id))
    }

    /// The begin of text, or the end where there is none.
    pub fn begin(&self) -> TokenId {
        self.begin
    }

    /// The begin of text that the files name.
    pub fn named_begin(&self) -> Option<TokenId> {
        self.named.begin.is_some().then_some(self.begin)
    }

    /// What `tokenizer_config.json` says of the begin before a text, against what is put there.
    pub fn contradicts_its_begin(&self) -> Option<bool> {
        let is_put = !self.prompt_begin.is_empty();
        self.named.adds_begin.filter(|says| *says != is_put)
    }

    /// What is put before a text, as by transformers.
    pub fn prompt_begin(&self) -> &[TokenId] {
        &self.prompt_begin
    }

    /// One past the largest id, markers included.
    pub fn vocab_size(&self) -> usize {
        self.line_ends.len()
    }
}

fn encode(inner: &Inner, text: &str) -> Vec<TokenId> {
    let encoding = inner.encode_fast(text, false);
    encoding
        .expect("a byte-level BPE encodes any text")
        .get_ids()
        .to_vec()
}

/// Options of a call that a file may carry; with them, lines would be cut, padded, or different
/// each time.
fn drop_options(inner: &mut Inner) -> Result<(), tokenizers::Error> {
    inner.with_truncation(None)?.with_padding(None);
    if let ModelWrapper::BPE(model) = inner.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        inner.with_model(model);
    }
    Ok(())
}

/// Adds the markers that are not there; those that are keep what they take beside them in
/// conversations, and become special tokens.
fn add_markers(inner: &mut Inner, names: [&str; 4]) {
    let added = inner.get_added_tokens_decoder();
    let markers = names.map(|name| {
        let found = added.values().find(|token| token.content == name).cloned();
        found.map_or_else(|| special(name), |token| token.special(true))
    });
    inner.add_special_tokens(&markers);
}

/// The view for code: the names of special tokens are text, and the other added tokens leave the
/// spaces beside them alone, which would be lost.
fn for_code(inner: &Inner) -> Inner {
    let mut text = inner.clone();
    let plain: Vec<AddedToken> = inner
        .get_added_tokens_decoder()
        .into_values()
        .filter(|token| !token.special && (token.lstrip || token.rstrip))
        .map(|token| token.lstrip(false).rstrip(false))
        .collect();
    text.add_tokens(&plain);
    text.set_encode_special_tokens(true);
    text
}

/// By id; ids may have gaps, which stand for nothing.
fn tokens(inner: &Inner) -> Result<Arc<[Token]>, String> {
    let alphabet = Alphabet::new();
    let vocabulary = inner.get_vocab(true);
    let n = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
    if n > IDS_MAX {
        return Err(format!(
            "it has the id {}, far beyond any vocabulary",
            n - 1
        ));
    }
    let mut tokens = vec![Token::default(); n];
    for (token, id) in vocabulary {
        tokens[id as usize].bytes = alphabet.bytes(&token).into();
    }
    for (id, token) in inner.get_added_tokens_decoder() {
        tokens[id as usize] = Token {
            bytes: token.content.into_bytes().into(),
            is_special: token.special,
        };
    }
    Ok(tokens.into())
}

/// What the post-processor puts before a text.
fn prompt_begin(inner: &Inner) -> Result<Vec<TokenId>, String> {
    let ids = |with_begin| match inner.encode_fast("x", with_begin) {
        Ok(encoding) => Ok(encoding.get_ids().to_vec()),
        Err(error) => Err(error.to_string()),
    };
    let (with, without) = (ids(true)?, ids(false)?);
    if without.is_empty() {
        return Err("it cuts the letter x into no tokens: its vocabulary is not whole".to_owned());
    }
    let at = with
        .windows(without.len())
        .position(|part| part == without)
        .ok_or("its post_processor does not keep the text's own ids")?;
    if let Some(id) = with.iter().find(|id| inner.id_to_token(**id).is_none()) {
        return Err(format!(
            "its post_processor puts the id {id} beside a text, and no token has it"
        ));
    }
    Ok(with[..at].to_vec())
}

/// The post-processor of a tokenizer that is trained here: a text stands behind an end of text, in
/// training as in prompts.
fn beginning(inner: &Inner) -> TemplateProcessing {
    let id = inner.token_to_id(END).expect("the trainer has added it");
    TemplateProcessing::builder()
        .try_single(format!("{END} $A"))
        .expect("a token and a text")
        .special_tokens(vec![(END, id)])
        .build()
        .expect("the template's one token is there")
}

/// Why there is no `tokenizer.json` to read, and what to do about it.
fn absence(path: &Path, error: &std::io::Error) -> String {
    let others = [
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "tiktoken.model",
    ];
    let is_beside = |name: &&&str| path.with_file_name(name).exists();
    match others.iter().find(is_beside) {
        Some(other) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "it is not there, only {other} is: write it with transformers, \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        ),
        _ => error.to_string(),
    }
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

fn failure(path: &Path, reason: String) -> TextError {
    TextError::Tokenizer(path.to_owned(), reason)
}
