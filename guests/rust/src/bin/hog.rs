//! Takes memory, MiB by MiB, and touches it: `hog [MIB] [then sleep for SECONDS]`. Without MIB,
//! until it is refused.
//!
//! Worlds: p1

use std::time::Duration;

use rust_guests::number;

const PAGES_A_MIB: usize = 16;

fn main() {
    let wanted = number(1, u64::MAX);
    println!("taking memory");
    let mut held = 0;
    while held < wanted {
        if !take() {
            println!("refused after {held} MiB");
            std::process::exit(1);
        }
        held += 1;
    }
    println!("holding {held} MiB");
    std::thread::sleep(Duration::from_secs(number(2, 0)));
}

fn take() -> bool {
    let before = core::arch::wasm32::memory_grow::<0>(PAGES_A_MIB);
    if before == usize::MAX {
        return false;
    }
    for page in 0..PAGES_A_MIB {
        let address = ((before + page) << 16) as *mut u8;
        // SAFETY: the page was just added to the memory, and nothing else knows of it.
        unsafe { address.write_volatile(1) };
    }
    true
}
