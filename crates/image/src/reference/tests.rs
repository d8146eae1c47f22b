#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    text.parse()
}

#[test]
fn normalised_as_docker_does() {
    let hex = "a".repeat(64);
    for (text, full) in [
        (
            "nginx".to_owned(),
            "docker.io/library/nginx:latest".to_owned(),
        ),
        ("nginx:1.27".into(), "docker.io/library/nginx:1.27".into()),
        ("user/app".into(), "docker.io/user/app:latest".into()),
        (
            "index.docker.io/nginx".into(),
            "docker.io/library/nginx:latest".into(),
        ),
        ("localhost/x".into(), "localhost/x:latest".into()),
        (
            "localhost:5000/x/y:v1".into(),
            "localhost:5000/x/y:v1".into(),
        ),
        ("Host/x".into(), "Host/x:latest".into()),
        ("[::1]:5000/x".into(), "[::1]:5000/x:latest".into()),
        (
            "r.example.org/a__b/c--d.e:V_1.-".into(),
            "r.example.org/a__b/c--d.e:V_1.-".into(),
        ),
        (
            format!("a@sha256:{hex}"),
            format!("docker.io/library/a@sha256:{hex}"),
        ),
        (
            format!("a:t@sha256:{hex}"),
            format!("docker.io/library/a:t@sha256:{hex}"),
        ),
    ] {
        assert_eq!(parse(&text).unwrap().to_string(), full, "{text}");
    }
}

#[test]
fn each_error_names_what_is_wrong() {
    assert_eq!(parse(""), Err(ReferenceError::Empty));
    assert!(matches!(
        parse("library/Nginx"),
        Err(ReferenceError::UpperCase { .. })
    ));
    assert!(matches!(
        parse("a___b"),
        Err(ReferenceError::Component { .. })
    ));
    assert!(matches!(
        parse("a//b"),
        Err(ReferenceError::Component { .. })
    ));
    assert!(matches!(parse("../x"), Err(ReferenceError::Domain { .. })));
    assert!(matches!(
        parse("a/../b"),
        Err(ReferenceError::Component { .. })
    ));
    assert!(matches!(parse("a:"), Err(ReferenceError::Tag { .. })));
    assert!(matches!(parse("a:-x"), Err(ReferenceError::Tag { .. })));
    assert!(matches!(
        parse("http://x/y"),
        Err(ReferenceError::Domain { .. })
    ));
    assert!(matches!(
        parse("x.y:70000/z"),
        Err(ReferenceError::Domain { .. })
    ));
    assert!(matches!(
        parse("a@sha256:12"),
        Err(ReferenceError::Digest { .. })
    ));
    assert!(matches!(
        parse(&"a".repeat(64)),
        Err(ReferenceError::Identifier(_))
    ));
    assert!(matches!(
        parse(&format!("x.io/{}", "a".repeat(255))),
        Err(ReferenceError::TooLong { .. })
    ));
    assert!(parse("a b").is_err() && parse("ä").is_err() && parse("a\n").is_err());
}

#[test]
fn only_this_machine_is_loopback() {
    for yes in [
        "localhost/x",
        "localhost:5000/x",
        "127.0.0.1:5000/x",
        "127.9.9.9/x",
        "[::1]:5000/x",
    ] {
        assert!(parse(yes).unwrap().is_loopback(), "{yes}");
    }
    for no in [
        "nginx",
        "10.0.0.1:5000/x",
        "localhost.example.org/x",
        "127.0.0.1.example.org/x",
        "[fe80::1]/x",
    ] {
        assert!(!parse(no).unwrap().is_loopback(), "{no}");
    }
}

proptest! {
    #[test]
    fn a_full_name_parses_to_itself(text in "[ -~]{0,40}") {
        if let Ok(reference) = parse(&text) {
            prop_assert_eq!(parse(&reference.to_string()).unwrap(), reference);
        }
    }
}
