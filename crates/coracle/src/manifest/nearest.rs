//! Which word was meant by one that is none.

/// The field that was probably meant: the same but for case, or at most two letters away.
pub(super) fn nearest<'f>(text: &str, fields: &[&'f str]) -> Option<&'f str> {
    let lower = text.to_lowercase().replace(['_', '-'], "");
    let distances = fields
        .iter()
        .map(|field| (distance(&lower, &field.to_lowercase()), *field));
    let (distance, field) = distances.min()?;
    (distance <= 2 && distance * 2 < lower.chars().count()).then_some(field)
}

/// How many letters have to be changed, added or removed (Levenshtein), at most 64 of each word looked at.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.chars().take(64).enumerate() {
        let mut before = place;
        let mut left = place + 1;
        let mut next = vec![left];
        for (same, above) in other.iter().zip(row.iter().skip(1)) {
            let changed = before + usize::from(*same != letter);
            before = *above;
            left = changed.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_a_stranger_is_not() {
        let fields = ["image", "imagePullPolicy", "ports", "env", "tty"];
        for (text, meant) in [
            ("imge", Some("image")),
            ("Image", Some("image")),
            ("image_pull_policy", Some("imagePullPolicy")),
            ("port", Some("ports")),
            ("envv", Some("env")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, &fields), meant, "{text}");
        }
        assert_eq!(nearest("image", &[]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
