//! Lists the guest programs from the folders that hold their sources, so that a guest that is added
//! is in the enum, is built and has to have a test with no list to forget.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

type Error = Box<dyn std::error::Error>;

struct Guest {
    /// The enum's variant, as `RustHelloP2`.
    variant: String,
    /// The test's name, as `rust_hello_p2`.
    test: String,
    language: &'static str,
    world: &'static str,
    name: String,
    doc: String,
}

fn main() -> Result<(), Error> {
    let guests = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?)
        .parent()
        .ok_or("the harness stands in the folder of the guests")?
        .to_owned();
    let mut all = Vec::new();
    // Commands are programs, and components that are asked are libraries: cargo's examples.
    for folder in ["rust/src/bin", "rust/examples"] {
        for path in entries(&guests.join(folder))? {
            all.extend(rust(&path)?);
        }
    }
    for path in entries(&guests.join("go"))?
        .into_iter()
        .filter(|path| path.is_dir())
    {
        all.push(guest(
            "Go",
            "P1",
            &path,
            &doc(&path.join("main.go"), "//")?,
        )?);
    }
    for (folder, language, world, extension, comment) in [
        ("c", "C", "P1", "c", "//"),
        ("wat", "Wat", "P1", "wat", ";;"),
    ] {
        for path in sources(&guests.join(folder), extension)? {
            all.push(guest(language, world, &path, &doc(&path, comment)?)?);
        }
    }
    for path in sources(&guests.join("python"), "py")? {
        all.push(python(&path)?);
    }
    let mut hashes = String::new();
    for language in ["rust", "go", "c", "wat", "python"] {
        let folder = guests.join(language);
        println!("cargo::rerun-if-changed={}", folder.display());
        writeln!(hashes, "({language:?}, \"{:016x}\"),", hash(&folder)?)?;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("guests.rs");
    fs::write(out, generate(&all, &hashes)?)?;
    Ok(())
}

/// A Rust program says in its documentation for which worlds it is built.
fn rust(path: &Path) -> Result<Vec<Guest>, Error> {
    let text = doc(path, "//!")?;
    let worlds = text
        .split_once("Worlds: ")
        .ok_or_else(|| {
            format!(
                "{}: its documentation lacks a line `Worlds: p1, p2`",
                path.display()
            )
        })?
        .1;
    worlds
        .trim()
        .split(", ")
        .map(|world| match world {
            "p1" => guest("Rust", "P1", path, &text),
            "p2" => guest("Rust", "P2", path, &text),
            "http" => guest("Rust", "Http", path, &text),
            "p3" => guest("Rust", "P3", path, &text),
            "http3" => guest("Rust", "Http3", path, &text),
            other => Err(format!("{}: no world is called {other}", path.display()).into()),
        })
        .collect()
}

/// A program in Python is a script for CPython, unless it says that it is to be a component.
fn python(path: &Path) -> Result<Guest, Error> {
    let text = doc(path, "\"\"\"")?;
    match text.split_once("Worlds: ").map(|(_, world)| world.trim()) {
        None => guest("Python", "Script", path, &text),
        Some("http") => guest("Python", "Http", path, &text),
        Some(other) => Err(format!("{}: no world is called {other}", path.display()).into()),
    }
}

fn guest(
    language: &'static str,
    world: &'static str,
    path: &Path,
    doc: &str,
) -> Result<Guest, Error> {
    let name = path
        .file_stem()
        .and_then(|n| n.to_str())
        .ok_or("a guest's name is not UTF-8")?
        .to_owned();
    if !name.bytes().all(|b| b.is_ascii_lowercase()) {
        return Err(format!("{}: a guest's name is one word of a to z", path.display()).into());
    }
    let (head, tail) = name.split_at(1);
    let suffix = if world == "P2" { "P2" } else { "" };
    let doc = doc
        .split("Worlds: ")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    Ok(Guest {
        variant: format!("{language}{}{tail}{suffix}", head.to_ascii_uppercase()),
        test: format!(
            "{}_{name}{}",
            language.to_ascii_lowercase(),
            if suffix.is_empty() { "" } else { "_p2" }
        ),
        language,
        world,
        name,
        doc,
    })
}

/// The comment that a source begins with.
fn doc(path: &Path, comment: &str) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines: Vec<_> = text
        .lines()
        .map_while(|line| line.strip_prefix(comment))
        .map(|line| line.trim().trim_end_matches("\"\"\""))
        .collect();
    if lines.is_empty() {
        return Err(format!(
            "{}: a guest begins with a comment that says what it does",
            path.display()
        )
        .into());
    }
    Ok(lines.join(" "))
}

fn sources(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = entries(folder)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    Ok(paths)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|e| e.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Of every source's path and text. It may change with the Rust release: then guests are built anew.
fn hash(folder: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for path in entries(&next)? {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            if ["target", "node_modules", "__pycache__"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                todo.push(path);
            } else {
                path.strip_prefix(folder)
                    .map_err(io::Error::other)?
                    .hash(&mut hasher);
                fs::read(&path)?.hash(&mut hasher);
            }
        }
    }
    Ok(hasher.finish())
}

fn generate(all: &[Guest], hashes: &str) -> Result<String, std::fmt::Error> {
    let mut code = String::new();
    let rows = |row: &dyn Fn(&Guest) -> String| all.iter().map(row).collect::<Vec<_>>().join("\n");
    writeln!(
        code,
        "/// A guest program: its language, its name, and its world where that is not preview 1.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub enum Guest {{\n{}\n}}",
        rows(&|g| format!("#[doc = {:?}]\n{},", g.doc, g.variant))
    )?;
    writeln!(
        code,
        "impl Guest {{\n\
         /// Every guest.\n\
         pub const ALL: &'static [Self] = &[{}];\n\
         const fn row(self) -> (Language, World, &'static str) {{ match self {{\n{}\n}} }}\n\
         }}",
        rows(&|g| format!("Self::{},", g.variant)),
        rows(&|g| format!(
            "Self::{} => (Language::{}, World::{}, {:?}),",
            g.variant, g.language, g.world, g.name
        ))
    )?;
    writeln!(
        code,
        "/// Calls a macro with the name of each guest's test and its [`Guest`], so that a guest without\n\
         /// a test does not compile. See [the crate's documentation](crate).\n\
         #[macro_export]\n\
         macro_rules! for_each_guest {{ ($call:ident) => {{\n{}\n}} }}",
        rows(&|g| format!("$call!({} {});", g.test, g.variant))
    )?;
    writeln!(code, "const HASHES: &[(&str, &str)] = &[{hashes}];")?;
    Ok(code)
}
