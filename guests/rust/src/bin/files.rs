//! Works with files below the folder that it is given (`/tmp`), and prints a line for each kind of
//! work that came out right. Leaves nothing behind.
//!
//! Worlds: p1, p2

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rust_guests::{errno, symlink};

type Work = fn(&Path) -> io::Result<()>;

const WORK: [(&str, Work); 7] = [
    ("create", create),
    ("append", append),
    ("seek", seek),
    ("rename", rename),
    ("thousand", thousand),
    ("symlinks", symlinks),
    ("remove", remove),
];

fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| "/tmp".to_owned());
    let dir = Path::new(&parent).join("files-guest");
    if let Err(error) = fs::create_dir(&dir) {
        println!("create_dir: error {}", errno(&error));
        std::process::exit(1);
    }
    let mut failed = false;
    for (name, work) in WORK {
        match work(&dir) {
            Ok(()) => println!("{name}: ok"),
            Err(error) => {
                failed = true;
                println!("{name}: error {} ({error})", errno(&error));
            }
        }
    }
    std::process::exit(failed.into());
}

fn check(right: bool, what: &str) -> io::Result<()> {
    if right {
        Ok(())
    } else {
        Err(io::Error::other(what.to_owned()))
    }
}

fn create(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("a"), "one\n")?;
    check(
        fs::read_to_string(dir.join("a"))? == "one\n",
        "what was written is not what is read",
    )?;
    let again = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(dir.join("a"));
    check(
        again.is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists),
        "create_new on a file that exists",
    )
}

fn append(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(dir.join("a"))?;
    file.write_all(b"two\n")?;
    check(
        fs::read_to_string(dir.join("a"))? == "one\ntwo\n",
        "append did not append",
    )
}

fn seek(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("a"))?;
    file.seek(SeekFrom::End(-4))?;
    file.write_all(b"TWO")?;
    file.seek(SeekFrom::Start(0))?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    check(text == "one\nTWO\n", "wrote at the wrong place")?;
    file.set_len(4)?;
    check(file.metadata()?.len() == 4, "set_len did not cut")
}

fn rename(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("b"), "over")?;
    fs::rename(dir.join("a"), dir.join("b"))?;
    check(!dir.join("a").exists(), "the old name still exists")?;
    check(
        fs::read_to_string(dir.join("b"))? == "one\n",
        "the new name holds something else",
    )
}

/// More entries than one buffer of readdir holds, each listed once.
fn thousand(dir: &Path) -> io::Result<()> {
    let many = dir.join("many");
    fs::create_dir(&many)?;
    for i in 0..1000 {
        File::create(many.join(format!("file-{i:04}")))?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&many)? {
        let entry = entry?;
        check(entry.file_type()?.is_file(), "an entry that is no file")?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let expected: Vec<_> = (0..1000).map(|i| format!("file-{i:04}")).collect();
    check(names == expected, "the listing is not what was made")?;
    fs::remove_dir_all(&many)
}

/// A relative link, an absolute one and a loop.
fn symlinks(dir: &Path) -> io::Result<()> {
    let at = |name: &str| format!("{}/{name}", dir.display());
    symlink("b", &at("relative"))?;
    symlink(&at("b"), &at("absolute"))?;
    symlink("loop", &at("loop"))?;
    check(
        fs::read_to_string(at("relative"))? == "one\n",
        "the relative link leads elsewhere",
    )?;
    check(
        fs::read_to_string(at("absolute"))? == "one\n",
        "the absolute link leads elsewhere",
    )?;
    check(
        fs::read_link(at("absolute"))? == Path::new(&at("b")),
        "readlink gives another target",
    )?;
    check(
        fs::read(at("loop")).is_err_and(|e| errno(&e) == "ELOOP"),
        "a loop is not ELOOP",
    )
}

fn remove(dir: &Path) -> io::Result<()> {
    check(
        fs::remove_dir(dir).is_err_and(|e| errno(&e) == "ENOTEMPTY"),
        "a folder with files was removed",
    )?;
    fs::remove_dir_all(dir)?;
    check(!dir.exists(), "it still exists")
}
