//! Says that it spins, and does, for ever.
//!
//! Worlds: p1, p2

fn main() {
    println!("spinning");
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
