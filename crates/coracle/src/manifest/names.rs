//! What may be a name (`k8s.io/apimachinery/pkg/util/validation`).

/// RFC 1123: lower-case letters, digits and `-`, beginning and ending with a letter or digit, at
/// most 63. Containers, volumes, namespaces.
pub(crate) fn label(text: &str) -> Result<(), String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = !text.is_empty()
        && text.len() <= 63
        && text.chars().all(|c| inside(c) || c == '-')
        && text.starts_with(inside)
        && text.ends_with(inside);
    good.then_some(()).ok_or_else(|| {
        format!(
            "{text:?} is not a name; use 1 to 63 lower-case letters, digits and '-', with a \
             letter or digit at both ends"
        )
    })
}

/// Labels with dots between them, at most 253 characters. Pods, ConfigMaps, Secrets.
pub(crate) fn subdomain(text: &str) -> Result<(), String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.chars().all(|c| inside(c) || c == '-')
            && part.starts_with(inside)
            && part.ends_with(inside)
    };
    let good = text.len() <= 253 && text.split('.').all(part);
    good.then_some(()).ok_or_else(|| {
        format!(
            "{text:?} is not a name; use 1 to 253 lower-case letters, digits, '-' and '.', with a \
             letter or digit at both ends"
        )
    })
}

/// A ConfigMap's or Secret's key (`IsConfigMapKey`).
pub(super) fn config_key(text: &str) -> Result<(), String> {
    let good = !text.is_empty()
        && text.len() <= 253
        && !matches!(text, "." | "..")
        && !text.starts_with("..")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    good.then_some(()).ok_or_else(|| {
        format!(
            "{text:?} is not a key; use 1 to 253 letters, digits, '-', '_' and '.', not beginning \
             with '..'"
        )
    })
}

/// A variable's name (`IsRelaxedEnvVarName`).
pub(super) fn variable(text: &str) -> Result<(), String> {
    let good = !text.is_empty()
        && text
            .chars()
            .all(|c| (c.is_ascii_graphic() || c == ' ') && c != '=');
    good.then_some(()).ok_or_else(|| {
        format!("{text:?} is not a variable's name; use printable ASCII characters without '='")
    })
}

/// A port's name (`IsValidPortName`).
pub(super) fn port(text: &str) -> Result<(), String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (1..=15).contains(&text.len())
        && text.chars().all(|c| inside(c) || c == '-')
        && text.contains(|c: char| c.is_ascii_lowercase())
        && text.starts_with(inside)
        && text.ends_with(inside)
        && !text.contains("--");
    good.then_some(()).ok_or_else(|| {
        format!(
            "{text:?} is not a port's name; use 1 to 15 lower-case letters, digits and single \
             '-', at least one letter"
        )
    })
}

/// A path in a volume: relative, and never upwards.
pub(super) fn inside(text: &str) -> Result<(), String> {
    let wrong = |help: &str| Err(format!("{text:?} is not a path in a volume; {help}"));
    match text {
        "" => wrong("name a file"),
        _ if text.starts_with('/') => wrong("write it without the '/' in front"),
        _ if text.split('/').any(|part| part == "..") => wrong("write it without '..'"),
        _ if text.starts_with("..") => wrong("a name must not begin with '..'"),
        _ if text.contains('\0') => wrong("it has a NUL character"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_apis() {
        for (text, is_label, is_subdomain) in [
            ("web", true, true),
            ("web-0", true, true),
            ("0", true, true),
            ("a.b", false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("A", false, false),
            ("a..b", false, false),
            ("a_b", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(label(text).is_ok(), is_label, "{text}");
            assert_eq!(subdomain(text).is_ok(), is_subdomain, "{text}");
        }
        assert!(label(&"a".repeat(64)).is_err() && subdomain(&"a".repeat(64)).is_ok());
        assert!(subdomain(&"a".repeat(254)).is_err());
    }

    #[test]
    fn keys_variables_ports_and_paths() {
        assert!(["a", "A.b-c_d", ".a"].iter().all(|k| config_key(k).is_ok()));
        assert!(
            ["", ".", "..", "..a", "a/b", "a b"]
                .iter()
                .all(|k| config_key(k).is_err())
        );
        assert!(["A", "a.b-c", "1"].iter().all(|v| variable(v).is_ok()));
        assert!(["", "a=b", "a\n", "ä"].iter().all(|v| variable(v).is_err()));
        assert!(["http", "p-80"].iter().all(|p| port(p).is_ok()));
        assert!(
            ["", "80", "-a", "a--b", "HTTP", "sixteen-letters-"]
                .iter()
                .all(|p| port(p).is_err())
        );
        assert!(["a", "a/b", "a..b"].iter().all(|p| inside(p).is_ok()));
        assert!(
            ["", "/a", "a/../b", "..", "..data", "a\0"]
                .iter()
                .all(|p| inside(p).is_err())
        );
    }
}
