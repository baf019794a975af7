//! The name that was meant by one that is not there.

/// A name that is less alike was not meant.
const SIMILARITY_MIN: f64 = 0.85;

/// The most alike of the names, if one is alike enough.
pub(super) fn nearest<'names>(
    name: &str,
    names: impl IntoIterator<Item = &'names str>,
) -> Option<&'names str> {
    let similarity = |known: &str| strsim::jaro_winkler(name, known);
    let names = names.into_iter().map(|known| (similarity(known), known));
    names
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// True if the name is the paper's symbol, or what the symbol is called.
pub(super) fn is_symbol(name: &str, symbol: &str) -> bool {
    let called = match symbol {
        "α" => "alpha",
        "γ" => "gamma",
        other => other,
    };
    name == symbol || name == called
}
