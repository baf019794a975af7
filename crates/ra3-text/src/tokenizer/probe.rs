//! The proof that a tokenizer's ids and texts go both ways, made whenever one is loaded.
//!
//! A model is trained on the ids of texts, and its programs are the texts of ids: what is lost on
//! the way is lost silently. So every byte must have a token, a probe of all bytes that text can
//! hold must come back, and so must the name of every added token, which is that token in a
//! conversation and, if it is a special one, plain text in code.

use std::fmt::Write;

use tokenizers::Model;

use super::alphabet::letters;
use super::{ACT, CLOSE, THINK, Tokenizer};

const ADVICE: &str =
    "line-actions need a byte-level BPE that keeps its text, such as Qwen's or Llama 3's";
/// One letter for each first byte of a longer letter, none of which Unicode's composed form (NFC,
/// which Qwen's tokenizers write) changes.
const LETTERS: &str = "°éāőƒǎșɐʃˈx\u{336}x\u{35c}απдяґәԱաֆאبيکیܐݐށߊกა→あ一北日的語長각는이한\u{e000}！\
                       😀\u{40000}\u{80000}\u{c0000}\u{100000}";
/// Longer than what any option cuts a line to.
const N_LONG: usize = 4096;

/// Checks a tokenizer; the error says what is lost and what to do.
pub(super) fn check(tokenizer: &Tokenizer) -> Result<(), String> {
    check_bytes(tokenizer)?;
    for text in texts() {
        check_text(tokenizer, &text)?;
    }
    let mut added: Vec<(u32, String, bool)> = tokenizer
        .inner
        .get_added_tokens_decoder()
        .into_iter()
        .map(|(id, token)| (id, token.content, token.special))
        .collect();
    added.sort_unstable();
    for (id, name, is_special) in &added {
        check_added(tokenizer, *id, name, *is_special)?;
    }
    Ok(())
}

/// Every byte needs a token of its own for the words that no merge covers.
fn check_bytes(tokenizer: &Tokenizer) -> Result<(), String> {
    // Of the vocabulary itself: an added token of that name stands for its name.
    let model = tokenizer.text.get_model();
    let missing: Vec<usize> = letters()
        .iter()
        .enumerate()
        .filter(|(_, letter)| model.token_to_id(&letter.to_string()).is_none())
        .map(|(byte, _)| byte)
        .collect();
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let mut names = format!("0x{first:02x}");
    for byte in missing.iter().skip(1).take(7) {
        let _ = write!(names, ", 0x{byte:02x}");
    }
    if missing.len() > 8 {
        names += ", …";
    }
    let n = missing.len();
    Err(format!(
        "{n} of 256 bytes have no token ({names}), and text would lose them; {ADVICE}"
    ))
}

fn texts() -> Vec<String> {
    let ascii: String = (0..128u8).map(char::from).collect();
    let continuations: String = ('\u{4e00}'..'\u{4e40}').collect();
    vec![
        "def f(x):\n    return 'é' + x\n\n\nclass C:\n\tpass\n".to_owned(),
        ascii,
        LETTERS.to_owned(),
        continuations,
        format!("x = [{}]\n", "a1_, ".repeat(N_LONG)),
        format!("{}\n", "word".repeat(N_LONG / 4)),
        "\r\nif x:\r\n\ty = 1\r\n\r\n\r\n\t\tz\r".to_owned(),
        "  leading\n\n\n   \n\t\n    trailing  \t \n        ".to_owned(),
        "UPPER Lower ﬁ ² ½ \u{c5} ’ “ \u{a0} \u{200b} \u{2028}\u{85}\n".to_owned(),
        " ' 's 'LL don't I'M \"\"\"a\"\"\" #! /* <|x|> [UNK] <unk> </s>\n".to_owned(),
    ]
}

fn check_text(tokenizer: &Tokenizer, text: &str) -> Result<(), String> {
    let ids = tokenizer.encode(text);
    let back = tokenizer.decode(&ids);
    if back == text {
        return Ok(());
    }
    // Counted in letters, so that both are cut between them.
    let n_same = text.chars().zip(back.chars()).take_while(|(a, b)| a == b);
    let start = n_same.count().saturating_sub(2);
    let part = |text: &str| text.chars().skip(start).take(12).collect::<String>();
    Err(format!(
        "it does not give back the text that it was given: {:?} came back as {:?}; {ADVICE}",
        part(text),
        part(&back)
    ))
}

fn check_added(tokenizer: &Tokenizer, id: u32, name: &str, is_special: bool) -> Result<(), String> {
    if let Some(other) = tokenizer.inner.get_model().id_to_token(id)
        && other != name
    {
        return Err(format!(
            "the added token {name:?} and {other:?} have one id, {id}: number the tokens of the \
             vocabulary without gaps"
        ));
    }
    let advice = "take the token out of added_tokens, or train the model with another tokenizer";
    if tokenizer.encode_chat(name) != [id] {
        return Err(format!(
            "in a conversation the text {name:?} is not the added token {id} of that name; {advice}"
        ));
    }
    let text = format!("x = {name} + 1\n");
    let ids = tokenizer.encode(&text);
    let markers = [ACT, THINK, CLOSE].contains(&name) || id == tokenizer.markers.end;
    if is_special && markers && ids.contains(&id) {
        return Err(format!(
            "code that says {name:?} would be the marker of that name; {advice}"
        ));
    }
    if tokenizer.decode(&ids) != text {
        return Err(format!(
            "code that says {name:?}, the name of the added token {id}, does not come back: \
             {advice}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_holds_every_byte_that_text_can_hold() {
        let bytes: std::collections::BTreeSet<u8> =
            texts().iter().flat_map(|text| text.bytes()).collect();
        // Never in UTF-8: the first bytes of overlong letters and of letters above U+10FFFF.
        let never = [0xc0, 0xc1].into_iter().chain(0xf5..=0xff);
        let expected: std::collections::BTreeSet<u8> = (0..=255)
            .filter(|byte| !never.clone().any(|n| n == *byte))
            .collect();
        assert_eq!(bytes, expected);
    }
}
