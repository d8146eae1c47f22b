//! How figures are shown: a heading with how busy the machine is, rows, and verdicts.

use std::fmt::Display;

/// Begins a part of the report.
pub fn heading(text: &str) {
    println!("\n## {text}");
    println!("   (load of the last minute: {})", load());
}

/// One figure.
pub fn row(name: &str, value: impl Display) {
    println!("   {name:<44} {value}");
}

/// One figure that something is asked of.
pub fn verdict(name: &str, value: impl Display, target: &str, reached: bool) {
    let word = if reached { "reached" } else { "MISSED" };
    println!("=> {name:<44} {value}   asked: {target}   {word}");
}

/// How many threads wanted to run, on average over the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
