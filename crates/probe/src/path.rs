//! The path of a probe as it goes into a request: what Go's `url.Parse` and `URL.String` make of it
//! (`formatURL` in `pkg/probe/http/request.go`).

use std::fmt::Write;

/// A path with its query, in the letters that a request may have. What is escaped already stays so;
/// a text that is no URL is a path from its first letter to its last.
pub(crate) fn encoded(text: &str) -> String {
    let whole = text.split_once('#').map_or(text, |(before, _)| before);
    let (path, query) = match whole.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (whole, None),
    };
    let readable = !text.bytes().any(|byte| byte.is_ascii_control());
    let Some(plain) = unescaped(path).filter(|_| readable) else {
        return slashed(escaped(text.as_bytes()));
    };
    let path = match path.bytes().all(may_stand) {
        true => path.to_owned(),
        false => escaped(&plain),
    };
    match query {
        Some(query) => format!("{}?{}", slashed(path), legible(query)),
        None => slashed(path),
    }
}

fn slashed(path: String) -> String {
    match path.starts_with('/') {
        true => path,
        false => format!("/{path}"),
    }
}

/// What the escapes of a path stand for; `None` where a `%` is no escape.
fn unescaped(path: &str) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(plain)
}

/// Whether a letter may be in a path as it is (`validEncoded` of Go's `net/url`).
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]%".contains(&byte)
}

/// Every letter escaped that Go escapes in a path (`shouldEscape`).
fn escaped(path: &[u8]) -> String {
    let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte);
    percent(path, stays)
}

/// A query is sent as it is, but for what would end the request's line.
fn legible(query: &str) -> String {
    let stays = |byte: u8| byte.is_ascii_graphic() && !b"\"<>".contains(&byte);
    percent(query.as_bytes(), stays)
}

fn percent(text: &[u8], stays: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match stays(*byte) {
            true => out.push(char::from(*byte)),
            // Writing to a string can't fail.
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_sent_as_go_sends_it() {
        for (text, sent) in [
            ("", "/"),
            ("/", "/"),
            ("healthz", "/healthz"),
            ("/a/b?c=d&e=f%20g", "/a/b?c=d&e=f%20g"),
            ("?full", "/?full"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/a%2Fb", "/a%2Fb"),
            // One letter that may not stand, and the path is written anew.
            ("/a%2Fb c", "/a/b%20c"),
            ("/100%", "/100%25"),
            ("/100%?a=b", "/100%25%3Fa=b"),
            ("/a%zz", "/a%25zz"),
            ("/a\nb", "/a%0Ab"),
            ("/ü", "/%C3%BC"),
            ("/a#b", "/a"),
            ("/a?b=c d", "/a?b=c%20d"),
            ("/(a)[b]", "/(a)[b]"),
            ("/(a) {b}", "/%28a%29%20%7Bb%7D"),
        ] {
            assert_eq!(encoded(text), sent, "{text:?}");
        }
    }
}
