#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_value_knows_its_place() {
    let text = "a: 1\nb:\n  - x: y\n  - [2, {deep: here}]\n---\nsecond: yes\n";
    let documents = parse(text).unwrap();
    let first = documents.first().unwrap();
    let place = |field: &str| {
        let at = first.locate(field);
        (at.line, at.column)
    };
    assert_eq!(place("a"), (1, 4));
    assert_eq!(place("b[0].x"), (3, 8));
    assert_eq!(place("b[1][1].deep"), (4, 16));
    assert_eq!(place("b[1][1].absent"), (4, 9), "the nearest that is there");
    assert_eq!(documents.len(), 2);
    assert_eq!(documents.last().unwrap().locate("second").line, 6);
}

#[test]
fn numbers_and_words_are_what_kubectl_takes_them_for() {
    let documents = parse("[0400, 0o17, 1.5, yes, 'yes', ~, null, 10Mi]").unwrap();
    let found: Vec<String> = documents
        .first()
        .unwrap()
        .list()
        .iter()
        .map(|node| node.described(false))
        .collect();
    let expected = [
        "the number 256",
        "the number 15",
        "the number 1.5",
        "true",
        "\"yes\"",
        "null",
        "null",
        "\"10Mi\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_path_is_its_steps_and_back() {
    for path in [
        "spec.containers[0].image",
        "spec.containers[0].resources.limits[nvidia.com/gpu]",
        "metadata.labels[app.kubernetes.io/name]",
        "items[3][1].x",
    ] {
        assert_eq!(field(&steps(path)), path);
    }
    assert_eq!(steps(""), []);
    assert_eq!(
        steps("a..b[").len(),
        2,
        "what is no path ends, and does not hang"
    );
}

#[test]
fn bombs_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let before = level - 1;
        bomb.push_str(&format!("a{level}: &a{level} ["));
        bomb.push_str(&vec![format!("*a{before}"); 9].join(", "));
        bomb.push_str("]\n");
    }
    let deep = "[".repeat(5000);
    let wide = "- a\n".repeat(VALUES_MAX + 1);
    for text in [bomb.as_str(), &deep, &wide] {
        let (_, why) = parse(text).unwrap_err();
        assert!(!why.is_empty());
    }
}

#[test]
fn what_is_no_yaml_says_where() {
    for (text, line) in [
        ("a: b\n c: d\n", 2),
        ("a: 'x\n", 1),
        ("a: 1\na: 2\n", 2),
        ("a: [1, 2\nb: 3\n", 2),
        ("a:\n\t- b\n", 2),
        ("a: !ruby/object {}\n", 1),
        ("a: *none\n", 1),
    ] {
        let (at, why) = parse(text).unwrap_err();
        let at = at.unwrap();
        assert!(at.line >= line.min(2) - 1, "{text:?}: {at:?} {why}");
        assert!(!why.contains(" at line "), "{why}");
    }
}
