//! Several tools in one, chosen by the name it is called by or else by its first argument: `ls [PATH]`,
//! `cat [FILE...]`, `write FILE CODE [WORD...]`, `env`, `echo [WORD...]`, `sleep MS`, `true`, `false`, `exit CODE`.
//!
//! Worlds: p1

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// What its users take it for when they ask for something else.
const UNKNOWN: u8 = 127;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    match run(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tool: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(words: &[String]) -> io::Result<u8> {
    let Some((called, rest)) = words.split_first() else {
        return Ok(UNKNOWN);
    };
    let base = called.rsplit('/').next().unwrap_or(called);
    if let Some(done) = tool(base.trim_end_matches(".wasm"), rest) {
        return done;
    }
    let by_argument = rest.split_first().and_then(|(name, rest)| tool(name, rest));
    by_argument.unwrap_or_else(|| {
        let asked = rest.first().unwrap_or(called);
        eprintln!(
            "tool: there is no {asked:?} in it: ls, cat, write, env, echo, sleep, true, false and exit are"
        );
        Ok(UNKNOWN)
    })
}

/// Runs what has that name; nothing if nothing has.
fn tool(name: &str, words: &[String]) -> Option<io::Result<u8>> {
    Some(match name {
        "ls" => list(words.first().map_or("/", String::as_str)),
        "cat" => concatenate(words),
        "write" => write(words),
        "env" => environment(),
        "echo" => writeln!(io::stdout(), "{}", words.join(" ")).map(|()| 0),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number(words)));
            Ok(0)
        }
        "true" => Ok(0),
        "false" => Ok(1),
        "exit" => Ok(u8::try_from(number(words) & 0xff).unwrap_or(u8::MAX)),
        _ => return None,
    })
}

fn number(words: &[String]) -> u64 {
    words
        .first()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// The names in a folder, sorted, one a line.
fn list(path: &str) -> io::Result<u8> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| named(path, &error))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    for name in names {
        writeln!(io::stdout(), "{name}")?;
    }
    Ok(0)
}

/// Files one after the other; standard input if there are none.
fn concatenate(paths: &[String]) -> io::Result<u8> {
    if paths.is_empty() {
        io::copy(&mut io::stdin(), &mut io::stdout())?;
    }
    for path in paths {
        let mut file = fs::File::open(path).map_err(|error| named(path, &error))?;
        io::copy(&mut file, &mut io::stdout())?;
    }
    Ok(0)
}

/// Puts words and a newline into a file, and gives the code that it was told to.
fn write(words: &[String]) -> io::Result<u8> {
    let [path, code, words @ ..] = words else {
        return Ok(UNKNOWN);
    };
    let text = format!("{}\n", words.join(" "));
    fs::write(path, text).map_err(|error| named(path, &error))?;
    Ok(code.parse().unwrap_or(u8::MAX))
}

/// The environment, in order, a variable a line.
fn environment() -> io::Result<u8> {
    for (name, value) in std::env::vars_os() {
        writeln!(
            io::stdout(),
            "{}={}",
            name.to_string_lossy(),
            value.to_string_lossy()
        )?;
    }
    Ok(0)
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}
