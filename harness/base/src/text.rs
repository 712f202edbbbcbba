//! Text for messages: an error with its causes, and suggestions for an unknown name.

/// Suggests the known name that is most similar to `wrong`. If none is similar, lists all of them.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match similar(wrong, known.iter().copied()) {
        Some(name) => Some(format!("did you mean {name:?}?")),
        None if known.is_empty() => None,
        None => Some(format!("known: {}", known.join(", "))),
    }
}

/// Returns the known name that is most similar to `wrong`, if one is similar.
pub fn similar<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const SIMILAR: f64 = 0.6;
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(wrong, name);
    let scored = known.into_iter().map(|name| (similarity(name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= SIMILAR).then_some(name)
}

/// Returns an error with all its causes on one line: many libraries leave the cause out of the
/// message.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        match text.contains(&cause) {
            true => text,
            false => format!("{text}: {cause}"),
        }
    })
}
