//! `sleeper MILLISECONDS`: says that it sleeps, does, and says that it woke. Without a time it sleeps
//! for ever.
//!
//! Worlds: p1, p2

use std::time::Duration;

use rust_guests::number;

fn main() {
    println!("sleeping");
    match std::env::args().len() {
        1 => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        _ => std::thread::sleep(Duration::from_millis(number(1, 0))),
    }
    println!("awake");
}
