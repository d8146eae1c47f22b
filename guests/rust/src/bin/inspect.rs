//! Prints what a guest sees: arguments, environment, terminals, working directory, the root, and
//! each path that it is given. The guests `inspect` in Go and C print the same lines.
//!
//! Worlds: p1, p2

use std::io::{self, IsTerminal};
use std::path::Path;
use std::{env, fs};

use rust_guests::{errno, list, quoted};

fn main() {
    let args: Vec<String> = env::args().collect();
    let mut vars: Vec<String> = env::vars()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    vars.sort();
    println!("args: {}", list(&args));
    println!("env: {}", list(&vars));
    println!(
        "tty: {} {} {}",
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        io::stderr().is_terminal()
    );
    match env::current_dir() {
        Ok(cwd) => println!("cwd: {}", cwd.display()),
        Err(error) => println!("cwd: error {}", errno(&error)),
    }
    println!("/: {}", content("/"));
    for path in args.iter().skip(1) {
        println!("{path}: {}", describe(path));
    }
}

fn describe(path: &str) -> String {
    match fs::read_link(path) {
        Ok(target) => format!(
            "link to {}, {}",
            quoted(&target.to_string_lossy()),
            content(path)
        ),
        Err(_) => content(path),
    }
}

fn content(path: &str) -> String {
    let seen = if Path::new(path).is_dir() {
        names(path)
    } else {
        fs::read_to_string(path).map(|text| quoted(&text))
    };
    seen.unwrap_or_else(|error| format!("error {}", errno(&error)))
}

fn names(path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(list(&names))
}
