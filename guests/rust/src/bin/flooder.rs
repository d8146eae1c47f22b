//! Writes `flooder MIB [KIB]`: MIB mebibytes to standard output, KIB kibibytes (64) at a write, in
//! numbered lines of 1,024 bytes, so that a reader can tell if any is missing.
//!
//! Worlds: p1, p2

use std::io::Write;

use rust_guests::number;

const LINE: usize = 1024;

fn main() -> std::io::Result<()> {
    let (total, block) = (number(1, 1) * 1024, number(2, 64));
    let mut buffer = Vec::with_capacity(block as usize * LINE);
    // Unbuffered: a write of the guest's is a write of the host's.
    let mut out = std::mem::ManuallyDrop::new(stdout());
    let mut next = 0;
    while next < total {
        buffer.clear();
        for line in next..total.min(next + block) {
            write!(buffer, "{line:010} ")?;
            buffer.resize(buffer.len().next_multiple_of(LINE) - 1, b'.');
            buffer.push(b'\n');
        }
        out.write_all(&buffer)?;
        next += block;
    }
    Ok(())
}

fn stdout() -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: descriptor 1 is open in every world, and the caller never closes it.
    unsafe { std::fs::File::from_raw_fd(1) }
}
