//! Ends badly, in the way that it is given: panic, unreachable, overflow (of the stack), memory (out
//! of bounds), deep (a trap under functions whose names a backtrace shows).
//!
//! Worlds: p1, p2

use std::hint::black_box;

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    eprintln!("about to end by {how}");
    match how.as_str() {
        "panic" => panic!("a panic of the guest's own"),
        "unreachable" => trap(),
        "overflow" => println!("{}", overflow(black_box(1))),
        "memory" => println!("{}", out_of_bounds()),
        "deep" => outermost(),
        _ => {
            eprintln!("give one of: panic, unreachable, overflow, memory, deep");
            std::process::exit(2);
        }
    }
}

#[inline(never)]
fn outermost() {
    middle();
    black_box(());
}

#[inline(never)]
fn middle() {
    innermost();
    black_box(());
}

#[inline(never)]
fn innermost() {
    black_box(());
    trap();
}

#[inline(never)]
fn trap() {
    core::arch::wasm32::unreachable();
}

#[inline(never)]
#[allow(
    unconditional_recursion,
    reason = "to pass the end of the stack is the point"
)]
fn overflow(depth: u64) -> u64 {
    // The second use of the frame keeps this from becoming a loop.
    let frame = black_box([depth; 16]);
    overflow(depth + 1) + black_box(frame)[0]
}

#[inline(never)]
fn out_of_bounds() -> u8 {
    let address = black_box(usize::MAX) as *const u8;
    // SAFETY: none, on purpose: beyond the memory's end the engine traps. Nothing is aliased.
    unsafe { address.read_volatile() }
}
