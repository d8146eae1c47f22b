//! What several of the guests need. No dependencies: a guest shows what the standard library and
//! the WASI host do together, nothing else.

use std::fmt::Write as _;
use std::io;

/// A string in double quotes with `\n`, `\t`, `"` and `\` escaped, as the guests in Go and C write
/// it too, so that one expectation fits all three.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Strings in brackets, each quoted.
pub fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<_> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// The errno of an error by its name in POSIX; WASI's numbers differ from Linux's.
pub fn errno(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return format!("{:?}", error.kind());
    };
    let name = match number {
        2 => "EACCES",
        8 => "EBADF",
        20 => "EEXIST",
        28 => "EINVAL",
        31 => "EISDIR",
        32 => "ELOOP",
        37 => "ENAMETOOLONG",
        44 => "ENOENT",
        51 => "ENOSPC",
        54 => "ENOTDIR",
        55 => "ENOTEMPTY",
        58 => "ENOTSUP",
        63 => "EPERM",
        69 => "EROFS",
        75 => "EXDEV",
        76 => "ENOTCAPABLE",
        _ => {
            let mut name = String::from("errno ");
            let _ = write!(name, "{number}");
            return name;
        }
    };
    name.to_owned()
}

/// Makes a symbolic link. The standard library has no stable way on WASI, its C library has.
pub fn symlink(target: &str, link: &str) -> io::Result<()> {
    use std::ffi::{CString, c_char, c_int};
    unsafe extern "C" {
        #[link_name = "symlink"]
        fn libc_symlink(target: *const c_char, link: *const c_char) -> c_int;
    }
    let (target, link) = (CString::new(target)?, CString::new(link)?);
    // SAFETY: both are NUL-terminated strings that outlive the call, which keeps neither.
    match unsafe { libc_symlink(target.as_ptr(), link.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The first argument as a number, or the default.
pub fn number(position: usize, default: u64) -> u64 {
    match std::env::args().nth(position) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| {
            eprintln!("argument {position} is not a number: {}", quoted(&text));
            std::process::exit(2)
        }),
    }
}
