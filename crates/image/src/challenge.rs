//! What a registry asks for: the challenges of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way to show who one is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token, which the service `realm` gives.
    Bearer(Realm),
}

/// Where tokens come from, and what to ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Realm {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
}

/// The challenge to answer: a token's where there is one, else a password's. `None` where there is neither.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let mut all: Vec<Challenge> = texts
        .filter_map(|text| text.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = all.iter().position(|c| matches!(c, Challenge::Bearer(_)));
    match bearer {
        Some(at) => Some(all.swap_remove(at)),
        None => all.pop(),
    }
}

/// The challenges of one header that are known here.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text;
    // Whether parameters are of a challenge that is known.
    let mut known = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let word = token(rest);
        let after = rest.get(word.len()..).unwrap_or_default();
        if word.is_empty() {
            return found;
        }
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = quoted(value.trim_start());
                if let Some(Challenge::Bearer(realm)) = found.last_mut().filter(|_| known) {
                    match word.to_ascii_lowercase().as_str() {
                        "realm" => realm.realm = value,
                        "service" => realm.service = Some(value),
                        "scope" => realm.scope = Some(value),
                        _ => {}
                    }
                }
                rest = after;
            }
            None => {
                let scheme = match word.to_ascii_lowercase().as_str() {
                    "basic" => Some(Challenge::Basic),
                    "bearer" => Some(Challenge::Bearer(Realm::default())),
                    _ => None,
                };
                known = scheme.is_some();
                found.extend(scheme);
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// A parameter's value, quoted or not, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, inner.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(texts: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(WWW_AUTHENTICATE, text.parse().unwrap());
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(Realm {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }))
    }

    #[test]
    fn as_registries_write_them() {
        assert_eq!(
            of(&[r#"Bearer realm="https://a/t",service="r",scope="repository:x/y:pull,push""#]),
            bearer("https://a/t", Some("r"), Some("repository:x/y:pull,push"))
        );
        assert_eq!(
            of(&[r#"bearer realm=https://a/t, error="invalid_token""#]),
            bearer("https://a/t", None, None)
        );
        assert_eq!(
            of(&[r#"Basic realm="x, Bearer realm=y""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(
            of(&[r#"Basic realm="a \"b\"", Bearer realm="u""#]),
            bearer("u", None, None)
        );
        assert_eq!(
            of(&["Basic", r#"Negotiate abc=="#, r#"Bearer realm="u""#]),
            bearer("u", None, None)
        );
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(
            of(&[r#"Digest realm="d", Basic realm="b""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_hang(text in "[ -~]{0,80}") {
            parse(&text);
        }

        #[test]
        fn values_come_back(realm in "[ !#-\\[\\]-~]{1,20}", scope in "[a-z:,/]{1,20}") {
            let text = format!("Bearer realm=\"{realm}\",scope=\"{scope}\"");
            prop_assert_eq!(of(&[&text]), bearer(&realm, None, Some(&scope)));
        }
    }
}
